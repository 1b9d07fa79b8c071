"""How scripts end, who logs, and what is recorded about a run."""

import http.server
import json
import os
import platform
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vietst.errors import VietstError
from vietst.runtime import environment_record, get_logger, set_seed

USER_ERROR = (
    "from vietst.errors import ConfigError as E; raise E(where='here', rule='one', found='two', do='three')"
)


def run_main(body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script whose `main` is `body`."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    program = f"from vietst.runtime import run_script, get_logger\ndef main():\n{indented}\nrun_script(main)"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_a_users_mistake_is_a_message_and_exit_code_2() -> None:
    answer = run_main(USER_ERROR)
    assert answer.returncode == 2
    assert answer.stderr == "error: here\n  rule:  one\n  found: two\n  do:    three\n"


def test_a_password_in_an_address_is_not_shown() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "from vietst.hub_access import hub_address; print(hub_address())"],
        env={**os.environ, "HF_ENDPOINT": "https://mai:secret@hub.example"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "https://hub.example"
    for password in ("secret", "se@cret"):
        found = f"GET http://mai:{password}@hub.example/x?a@b failed"
        error = VietstError(where="a", rule="b", found=found, do="c")
        assert error.found == "GET http://hub.example/x?a@b failed"


def test_the_message_comes_after_everything_else_that_was_printed() -> None:
    body = "print('on stdout')\nget_logger(__name__).info('logged')\n" + USER_ERROR
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    program = f"from vietst.runtime import run_script, get_logger\ndef main():\n{indented}\nrun_script(main)"
    answer = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert "on stdout" in answer.stdout
    assert "logged" in answer.stdout
    assert answer.stdout.endswith("  do:    three\n")


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    answer = run_main("[][0]")
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr
    assert "IndexError" in answer.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
@pytest.mark.parametrize(
    "write",
    [
        "pathlib.Path('file').write_bytes(bytes(5000))",
        "import torch, safetensors.torch\nsafetensors.torch.save_file({'a': torch.zeros(5000)}, 'file')",
    ],
    ids=["python", "safetensors"],
)
def test_a_full_disk_is_told_whoever_writes(
    write: str, tmp_path: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    limited = "import pathlib, resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    answer = run_main(limited + write, PYTHONPATH=str(repo_root))
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert answer.stderr.endswith("  do:    free some space, and run the same command again\n")


def test_an_interruption_is_quiet() -> None:
    answer = run_main("raise KeyboardInterrupt")
    assert (answer.returncode, answer.stdout, answer.stderr) == (130, "", "")


def test_a_script_that_works_ends_with_0() -> None:
    assert run_main("print('fine')").returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="OpenMP tells its settings in other words elsewhere")
def test_torchs_threads_do_not_burn_the_cores_of_others_while_they_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    told = {"OMP_DISPLAY_ENV": "verbose"}
    assert "GOMP_SPINCOUNT = '10000'" in run_main("import torch", **told).stderr
    chosen = run_main("import torch", **told, OMP_WAIT_POLICY="ACTIVE")
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in chosen.stderr
    assert "GOMP_SPINCOUNT = '10000'" not in chosen.stderr


@pytest.mark.slow
def test_letters_that_the_output_cannot_take_end_nothing() -> None:
    answer = run_main("print('người')", PYTHONIOENCODING="ascii")
    assert (answer.returncode, answer.stdout) == (0, "ng\\u01b0\\u1eddi\n")


def test_under_a_launcher_with_two_processes_the_message_stands_once(tmp_path: Path, repo_root: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"from vietst.runtime import run_script\ndef main():\n    {USER_ERROR}\nrun_script(main)\n"
    )
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    answer = subprocess.run(
        [*command, repo_root / "accelerate_configs/cpu_x2.yaml", script], capture_output=True, text=True
    )
    assert answer.returncode != 0
    assert answer.stderr.count("error: here") == 1
    assert "rank 1" not in re.sub(r"(?s)Root Cause.*", "", answer.stderr)


def test_only_rank_0_logs_information() -> None:
    body = "log = get_logger('vietst.training.x')\nlog.info('progress')\nlog.warning('trouble')"
    first, second = (run_main(body, RANK=rank, WORLD_SIZE="2") for rank in ("0", "1"))
    assert "progress" in first.stderr
    assert "progress" not in second.stderr
    assert "rank 1 of 2: trouble" in second.stderr


def test_log_lines_do_not_break_a_progress_bar() -> None:
    body = (
        "import sys\nfrom tqdm import tqdm\n"
        "with tqdm(total=2, file=sys.stderr, mininterval=0) as bar:\n"
        "    bar.update()\n    get_logger('vietst.x').info('between')\n    bar.update()"
    )
    answer = run_main(body)
    assert re.search(r"(^|\r *\r)\d\d:\d\d:\d\d between\n", answer.stderr, re.MULTILINE)


def test_loggers_of_modules_and_of_scripts_share_one_handler() -> None:
    assert get_logger("vietst.data.manifest").name == "vietst.data.manifest"
    assert get_logger("__main__").name == "vietst"
    ours = [
        handler
        for handler in get_logger("__main__").handlers
        if type(handler).__module__ == "vietst.runtime"  # pytest adds its own
    ]
    assert len(ours) == 1


def test_the_same_seed_gives_the_same_numbers() -> None:
    import random

    import numpy as np
    import torch

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    set_seed(3)
    first = draw()
    set_seed(3)
    assert draw() == first
    set_seed(4)
    assert draw() != first


def test_the_environment_record_names_versions_and_hardware_but_no_person_and_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    record = environment_record()
    text = json.dumps(record)
    packages = record["packages"]
    assert isinstance(packages, dict)
    assert {"vietst", "torch", "transformers", "accelerate", "datasets"} <= packages.keys()
    assert record["cpu"]
    assert record["world_size"] == 1
    for private in ("hf_secret", str(Path.home()), str(Path.cwd()), __file__):
        assert private not in text


def test_the_environment_record_knows_the_commit_of_a_checkout(repo_root: Path) -> None:
    commit = environment_record()["git_commit"]
    if (repo_root / ".git").exists():
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", str(commit))
    else:
        assert commit is None


# --- is a base model at hand? ----------------------------------------------------------------------------


class Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/there/model/resolve/main/config.json" else 404)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub_url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def at_hand(model: str, **environment: str) -> list[str]:
    program = f"from vietst.runtime import base_model_at_hand; print(*base_model_at_hand({model!r}), sep='|')"
    answer = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return answer.stdout.strip().split("|")


def test_a_folder_is_at_hand(tmp_path: Path) -> None:
    assert at_hand(str(tmp_path))[0] == "True"


def test_a_model_on_a_hub_that_answers_is_at_hand(hub_url: str) -> None:
    online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub_url, "NO_PROXY": "127.0.0.1"}
    assert at_hand("there/model", **online)[0] == "True"
    verdict, reason = at_hand("not/there", **online)
    assert verdict == "False"
    assert hub_url in reason


def test_offline_means_that_the_hub_is_not_asked(hub_url: str) -> None:
    verdict, reason = at_hand("there/model", HF_HUB_OFFLINE="1", HF_ENDPOINT=hub_url)
    assert verdict == "False"
    assert "HF_HUB_OFFLINE" in reason


def test_a_hub_that_is_not_there_is_an_answer_not_an_error() -> None:
    verdict, reason = at_hand("there/model", HF_HUB_OFFLINE="0", HF_ENDPOINT="http://127.0.0.1:9")
    assert verdict == "False"
    assert "does not answer" in reason


def test_weights_in_the_cache_are_at_hand_offline(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub/models--there--model/snapshots/abc"
    snapshot.mkdir(parents=True)
    refs = tmp_path / "hub/models--there--model/refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    assert at_hand("there/model", HF_HOME=str(tmp_path))[0] == "False"
    (snapshot / "pytorch_model.bin").write_text("weights")
    assert at_hand("there/model", HF_HOME=str(tmp_path))[0] == "True"


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory by rules of their own"
)
def test_kept_memory_costs_no_page_faults() -> None:
    program = """
import resource
import numpy as np
from vietst.runtime import keep_freed_memory

def num_page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(1 << 20, np.uint8) for _ in range(32)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

num_page_faults()
given_back = num_page_faults()
keep_freed_memory()
num_page_faults()
print(given_back, num_page_faults())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    given_back, kept = map(int, answer.stdout.split())
    assert 10 * kept < given_back
