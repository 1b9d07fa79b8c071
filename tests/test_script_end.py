"""How scripts end."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run_main import run_main
from vietst.errors import VietstError

USER_ERROR = (
    "from vietst.errors import ConfigError as E; raise E(where='here', rule='one', found='two', do='three')"
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
    program = (
        "from vietst.runtime import get_logger\nfrom vietst.script_end import run_script\n"
        f"def main():\n{indented}\nrun_script(main)"
    )
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


@pytest.mark.parametrize(
    ("name", "found"),
    [("a" * 300, "File name too long"), ("a\0b", "embedded null")],
    ids=["too_long", "with_nul"],
)
@pytest.mark.skipif(sys.platform == "win32", reason="such errors have other words there")
def test_a_name_that_no_file_can_have_is_a_users_mistake(name: str, found: str) -> None:
    answer = run_main(f"import os; os.stat({name!r})")
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert found in answer.stderr


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


def test_memory_that_runs_out_is_told_without_a_traceback() -> None:
    answer = run_main(
        "raise RuntimeError('MPS backend out of memory (MPS allocated: 9 GB).\\nmore about it')"
    )
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert "found: MPS backend out of memory (MPS allocated: 9 GB).\n" in answer.stderr
    assert "--batch_size" in answer.stderr


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
        f"from vietst.script_end import run_script\ndef main():\n    {USER_ERROR}\nrun_script(main)\n"
    )
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    answer = subprocess.run(
        [*command, repo_root / "accelerate_configs/cpu_x2.yaml", script], capture_output=True, text=True
    )
    assert answer.returncode != 0
    assert answer.stderr.count("error: here") == 1
    assert "rank 1" not in re.sub(r"(?s)Root Cause.*", "", answer.stderr)


@pytest.mark.parametrize("num_characters", [10, 1_000_000])
def test_output_that_nobody_reads_any_more_ends_a_script_quietly(num_characters: int) -> None:
    program = f"from vietst.script_end import run_script; run_script(lambda: print('a' * {num_characters}))"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), said) == (141, "")


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_script_without_a_standard_output_ends_well() -> None:
    program = "from vietst.script_end import run_script; run_script(lambda: None)"
    command = ["sh", "-c", '"$0" -c "$1" >&-', sys.executable, program]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_what_is_said_to_a_standard_error_that_is_closed_does_not_go_to_the_output() -> None:
    program = (
        "from vietst.runtime import get_logger; from vietst.script_end import run_script; "
        "run_script(lambda: get_logger('a').info('said'))"
    )
    command = ["sh", "-c", '"$0" -c "$1" 2>&-', sys.executable, program]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (0, "")


@pytest.mark.parametrize(("last_line", "exit_code"), [("pass", 0), ("raise Preempted('go on later')", 75)])
@pytest.mark.parametrize(("world_size", "is_taken_apart"), [("1", True), ("2", False)])
def test_one_of_several_processes_ends_before_python_takes_it_apart(
    last_line: str, exit_code: int, world_size: str, is_taken_apart: bool
) -> None:
    """Threads of process groups would abort it then. What asked to be called at the end is called."""
    body = (
        "import atexit, os, sys\nfrom vietst.script_end import Preempted\n"
        "class Kept:\n    def __del__(self):\n        os.write(1, b'taken apart ')\n"
        "sys.modules['__main__'].kept = Kept()\n"
        "atexit.register(lambda: print('last words', end=' '))\n"
        f"{last_line}"
    )
    answer = run_main(body, RANK="0", WORLD_SIZE=world_size)
    assert answer.returncode == exit_code, answer.stderr
    assert "last words" in answer.stdout
    assert ("taken apart" in answer.stdout) == is_taken_apart
