"""scripts/push_to_hub.py and its refusals, against the loopback Hub."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.server import READ_TOKEN, TOKEN, LoopbackHub, Mood
from tests.tiny_models import whisper_model, whisper_processor
from vietst.config_schema import HubSection
from vietst.errors import HubError
from vietst.hub.publishing import HubAwayError, require_repository

PROGRAM = """
import json, os, sys
from pathlib import Path
import huggingface_hub.constants
from vietst.errors import VietstError
from vietst.hub.by_hand import push_model_folder

told = {}
for name, (token, overrides) in json.loads(sys.argv[2]).items():
    os.environ["HF_TOKEN"] = token
    try:
        push_model_folder(Path(sys.argv[1]), overrides)
        told[name] = "pushed"
    except VietstError as error:
        told[name] = f"{type(error).__name__} {error}"
print("TOLD", json.dumps(told))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "mine"
    processor = whisper_processor()
    whisper_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def run(hub: LoopbackHub, folder: Path, *command: str, **environment: str) -> Any:
    return subprocess.run(
        [sys.executable, *command],
        env=hub.client_environment(folder / "hf_home", **environment),
        capture_output=True,
        text=True,
        check=False,
    )


def push_all(hub: LoopbackHub, model_dir: Path, cases: dict[str, tuple[str, list[str]]]) -> dict[str, str]:
    """What the pushes of the cases (token, overrides) say, one after the other in one process."""
    finished = run(hub, model_dir.parent, "-c", PROGRAM, str(model_dir), json.dumps(cases))
    assert finished.returncode == 0, finished.stderr
    assert "hf_" not in finished.stderr
    told: dict[str, str] = json.loads(finished.stdout.rpartition("TOLD ")[2])
    return told


def test_what_cannot_be_pushed_is_refused_with_what_to_do(hub: LoopbackHub, model_dir: Path) -> None:
    store = hub.store
    store.create("model", "tester/seen", "public")
    store.create("model", "stranger/theirs", "private")
    store.create("model", "stranger/open", "public")
    pickles = {"pytorch_model.bin": store.lfs_file(store.add_content(b"pickle"))}
    store.add_commit(store.create("model", "tester/taken", "private"), "main", pickles, "weights")
    store.add_commit(store.create("model", "tester/main_only", "private"), "theirs", pickles, "weights")
    hub.moods = [
        Mood("tester/full.git/info/lfs", status=403, message="Private repository storage limit reached"),
        Mood("tester/broken/tree/", status=500),
    ]
    cases = {
        "no token": ("", ["hub.repo_id=tester/model"]),
        "wrong token": ("hf_wrong", ["hub.repo_id=tester/model"]),
        "token that may only read": (READ_TOKEN, ["hub.repo_id=tester/model"]),
        "somebody else's": (TOKEN, ["hub.repo_id=stranger/new"]),
        "somebody else's private one": (TOKEN, ["hub.repo_id=stranger/theirs"]),
        "somebody else's public one": (TOKEN, ["hub.repo_id=stranger/open", "hub.private=false"]),
        "public": (TOKEN, ["hub.repo_id=tester/seen"]),
        "taken": (TOKEN, ["hub.repo_id=tester/taken"]),
        "branch": (TOKEN, ["hub.repo_id=tester/main_only", "hub.revision=theirs"]),
        "new branch": (TOKEN, ["hub.repo_id=tester/taken", "hub.revision=new"]),
        "no name": (TOKEN, ["hub.repo_id=a/b/c"]),
        "full": (TOKEN, ["hub.repo_id=tester/full"]),
        "broken": (TOKEN, ["hub.repo_id=tester/broken"]),
        "license": (TOKEN, ["hub.repo_id=tester/model", "hub.license=apache-2.0"]),
    }
    sent_before = hub.asked("PUT ")
    told = push_all(hub, model_dir, cases)
    hub.moods = []
    expected = {
        "no token": "no token",
        "wrong token": "refuses the token",
        "token that may only read": "one that may write there",
        "somebody else's": "rights to write to the namespace stranger",
        "somebody else's private one": "rights to write to the namespace stranger",
        "somebody else's public one": "rights to write to the namespace stranger",
        "public": "a public repository, and what is published is to be private",
        "taken": "the name is taken: it holds pytorch_model.bin",
        "branch": "the name is taken: it holds pytorch_model.bin",
        "new branch": "the name is taken: it holds pytorch_model.bin",
        "no name": "hub.repo_id",
        "full": "make room in the account",
        "broken": "HTTP 500",
        "license": "is not known",
    }
    assert told.keys() == expected.keys()
    for name, part in expected.items():
        assert part in told[name], (name, told[name])
        assert "do:" in told[name] or "ConfigError" in told[name]
    assert told["broken"].startswith("HubAwayError")
    assert hub.asked("PUT ") == sent_before
    for repository in store.repositories.values():
        assert "config.json" not in repository.commit_at("main").files
        assert "new" not in repository.branches


def test_a_push_goes_to_the_branch_that_was_asked_for_and_drops_what_the_model_no_longer_has(
    hub: LoopbackHub, model_dir: Path
) -> None:
    repository = hub.store.create("model", "tester/branches", "public")
    files = {
        **repository.commit_at("main").files,
        "config.json": hub.store.regular_file(b"{}"),
        "vocab.json": hub.store.regular_file(b"{}"),
        "notes.md": hub.store.regular_file(b"the owner's own"),
    }
    hub.store.add_commit(repository, "main", files, "an older model")
    command = ("scripts/push_to_hub.py", "--model_dir", str(model_dir), "--repo_id", "tester/branches")
    pushed = run(hub, model_dir.parent, *command, "--public", "--revision", "try", HF_TOKEN=TOKEN)
    assert pushed.returncode == 0, pushed.stderr
    assert f"the model is at {hub.endpoint}/tester/branches/tree/try" in pushed.stderr
    assert "what is there already is not sent again" in pushed.stderr
    assert repository.commit_at("main").title == "an older model"
    there = repository.commit_at("try").files
    assert "vocab.json" not in there
    assert {"notes.md", "model.safetensors", "README.md"} <= there.keys()


def test_a_dry_run_lists_the_files_and_asks_no_hub(hub: LoopbackHub, model_dir: Path) -> None:
    num_requests = len(hub.requests)
    listed = run(hub, model_dir.parent, "scripts/push_to_hub.py", "--model_dir", str(model_dir), "--dry_run")
    assert listed.returncode == 0, listed.stderr
    for name in ("model.safetensors", "README.md", "config.json", "tokenizer.json"):
        assert re.search(rf" [1-9][0-9.]* ([MkG]B|bytes)  {re.escape(name)}$", listed.stderr, re.MULTILINE)
    assert len(hub.requests) == num_requests


def test_a_hub_that_is_not_there_is_said_with_exit_code_2(hub: LoopbackHub, model_dir: Path) -> None:
    command = ("scripts/push_to_hub.py", "--model_dir", str(model_dir), "--repo_id", "tester/model")
    away = run(hub, model_dir.parent, *command, HF_TOKEN=TOKEN, HF_ENDPOINT="http://127.0.0.1:9")
    assert away.returncode == 2
    assert "http://127.0.0.1:9 does not answer" in away.stderr
    assert "check the network and HF_ENDPOINT" in away.stderr
    assert "Traceback" not in away.stderr


def test_a_file_that_does_not_go_up_is_said_with_its_reason(tmp_path: Path, model_dir: Path) -> None:
    """huggingface_hub wraps what happens in the middle of an upload into an exception of its own."""
    command = ("scripts/push_to_hub.py", "--model_dir", str(model_dir), "--repo_id", "tester/broken_off")
    with LoopbackHub(tmp_path / "hub") as hub:  # that of the other tests may have these weights already
        hub.moods = [Mood("PUT /_lfs", status=507, message="disk full")]
        broken_off = run(hub, tmp_path, *command, HF_TOKEN=TOKEN)
        assert broken_off.returncode == 2, broken_off.stderr
        refused = broken_off.stderr.rpartition("error: repository tester/broken_off")[2]
        assert "has no room for it (HTTP 507: disk full)" in refused
        hub.moods = []
        assert run(hub, tmp_path, *command, HF_TOKEN=TOKEN).returncode == 0


def test_offline_is_said_as_such() -> None:
    """The tests themselves run with HF_HUB_OFFLINE=1."""
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set") as refused:
        require_repository(HubSection(repo_id="tester/model"))
    assert not isinstance(refused.value, HubAwayError), "no use in trying again"


def test_a_hub_without_xet_says_which_variable_to_set(hub: LoopbackHub, model_dir: Path) -> None:
    command = ("scripts/push_to_hub.py", "--model_dir", str(model_dir), "--repo_id", "tester/xet")
    refused = run(hub, model_dir.parent, *command, HF_TOKEN=TOKEN, HF_HUB_DISABLE_XET="0")
    assert refused.returncode == 2, refused.stderr
    assert "set HF_HUB_DISABLE_XET=1" in refused.stderr
