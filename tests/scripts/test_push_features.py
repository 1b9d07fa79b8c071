"""Features pushed to a Hub and trained on from there, by the real scripts, as different people do."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.hub.messages import HubError, Request, Response
from tests.hub.server import TOKEN, LoopbackHub
from tests.tiny_runs import tiny_run_overrides
from tests.user_machine import Machine, assert_refused
from vietst.config import load_config
from vietst.data.features import FEATURE_CODE_VERSION

pytestmark = pytest.mark.slow

KIND = "log_mel-80-hop320-4s"
REPOSITORY = "tester/features"
ADDRESS = f"hf://datasets/{REPOSITORY}"


class MoodyHub(LoopbackHub):
    """A Hub that refuses commits while `refuses_commits` is set."""

    refuses_commits = False

    def answer(self, request: Request) -> Response:
        if self.refuses_commits and "/commit/" in request.path:
            return HubError(403, "no commits today").response()
        return super().answer(request)

    def uploads(self) -> list[str]:
        return [request for request in self.requests if request.startswith("PUT /_lfs/")]


@pytest.fixture(scope="module")
def machine(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The publisher's: 12 clips of noise of 6 videos with a manifest, and a Hub."""
    corpus = tmp_path_factory.mktemp("corpus")
    lines = ["audio_path\ttranscript\ttranslation\tvideo_id\ttopic"]
    for number in range(12):
        samples = 0.1 * np.random.default_rng(number).standard_normal(16_000)
        soundfile.write(corpus / f"{number:02d}.wav", samples, 16_000)
        lines.append(
            f"{number:02d}.wav\tDeploy app số {number}\tTriển khai số {number}\tv{number % 6}\tdevops"
        )
    manifest = corpus / "data" / "export" / "manifest.tsv"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    folder = tmp_path_factory.mktemp("publisher")
    with MoodyHub(folder / "hub") as hub:
        yield Machine(repo_root, corpus, folder, hub)


def push(machine: Machine, *arguments: str, repository: str = REPOSITORY, **environment: str) -> Any:
    options = ("--kinds", KIND, "--num_proc", "1", "--push_to_hub", repository, *arguments)
    return machine.run("build_features.py", *options, **({"HF_TOKEN": TOKEN} | environment))


@pytest.fixture(scope="module")
def pushed(machine: Machine) -> Any:
    """What the first push that succeeded printed; one that the Hub did not let commit went before."""
    machine.hub.refuses_commits = True
    assert_refused(push(machine), REPOSITORY, "one that may write there")
    machine.hub.refuses_commits = False
    assert machine.hub.uploads()
    finished = push(machine)
    assert finished.returncode == 0, finished.stderr
    sent = machine.hub.uploads()
    assert len(sent) == len(set(sent)), "an upload that broke off goes on where it was"
    return finished


def repository_files(machine: Machine, repo_id: str = REPOSITORY) -> dict[str, bytes]:
    store = machine.hub.store
    files = store.repositories["dataset", repo_id].commit_at("main").files
    return {path: store.content_path(file.sha256).read_bytes() for path, file in files.items()}


def test_what_is_published_is_the_cache_privately_and_nothing_of_the_machine(
    machine: Machine, pushed: Any
) -> None:
    features = machine.corpus / "data" / "features"
    local = {
        path.relative_to(features).as_posix(): path.read_bytes()
        for path in features.glob(f"{KIND}-*/**/*")
        if path.is_file()
    }
    files = repository_files(machine)
    readme = files.pop("README.md").decode()
    files.pop(".gitattributes")
    indexes = {path for path in files if "/rows/" in path}
    assert {Path(path).name for path in indexes} == {"train.arrow", "dev.arrow", "test.arrow"}
    assert {path: data for path, data in files.items() if path not in indexes} == local
    assert machine.hub.store.repositories["dataset", REPOSITORY].access == "private"
    assert "transcript, translation" in pushed.stderr
    assert "who may see the private repository" in pushed.stderr
    split_hash = json.loads((machine.corpus / "data/splits/audit.json").read_text())["split_hash"]
    assert split_hash in readme
    assert re.search(rf"\| `log_mel-80-hop320-4s` \| {FEATURE_CODE_VERSION} \| \d+ \(0\.00 h\)", readme)
    everything = readme.encode() + b"".join(files.values()) + pushed.stdout.encode() + pushed.stderr.encode()
    for secret in (TOKEN, str(machine.corpus), str(machine.folder)):
        assert secret.encode() not in everything


def test_nothing_is_sent_twice(machine: Machine, pushed: Any) -> None:
    repository = machine.hub.store.repositories["dataset", REPOSITORY]
    before, num_uploads = repository.commit_at("main"), len(machine.hub.uploads())
    again = push(machine)
    assert again.returncode == 0, again.stderr
    assert repository.commit_at("main") == before
    assert len(machine.hub.uploads()) == num_uploads


def test_push_to_hub_pushes_the_features_of_a_run(machine: Machine, pushed: Any, tmp_path: Path) -> None:
    (tmp_path / "resolved_config.yaml").write_text(load_config("nano_whisper").describe(), encoding="utf-8")
    options = ("--model_dir", str(tmp_path), "--what", "features", "--repo_id", "tester/of_run")
    manifest = machine.corpus / "data" / "export" / "manifest.tsv"
    exported = manifest.read_text(encoding="utf-8")
    manifest.write_text(exported + "new.wav\tmới\tmới\tv9\tdevops\n", encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in machine.corpus.rglob("*")}
    of_run = machine.run("push_to_hub.py", *options, HF_TOKEN=TOKEN)
    assert of_run.returncode == 0, of_run.stderr
    assert {path: path.stat().st_mtime_ns for path in machine.corpus.rglob("*")} == before, "only sent"
    manifest.write_text(exported, encoding="utf-8")
    there, here = (repository_files(machine, name) for name in ("tester/of_run", REPOSITORY))
    assert {path: there[path] for path in there if path != "README.md"} == {
        path: here[path] for path in here if path != "README.md"
    }
    assert machine.hub.store.repositories["dataset", "tester/of_run"].access == "private"


def test_data_that_nobody_may_publish_are_not_pushed_for_everybody(machine: Machine, tmp_path: Path) -> None:
    stated, forbidden = "hub.dataset_license=cc-by-nd-4.0", "the training data is under cc-by-nd-4.0"
    assert_refused(push(machine, "--public", stated, repository="tester/all"), "--public", forbidden)
    described = load_config("nano_whisper", [stated]).describe()
    (tmp_path / "resolved_config.yaml").write_text(described, encoding="utf-8")
    options = ("--model_dir", str(tmp_path), "--what", "features", "--repo_id", "tester/all", "--public")
    assert_refused(machine.run("push_to_hub.py", *options, HF_TOKEN=TOKEN), "--public", forbidden)
    assert ("dataset", "tester/all") not in machine.hub.store.repositories, "told before anything is made"
    permitted = machine.run("push_to_hub.py", *options, "hub.dataset_license=own", HF_TOKEN=TOKEN)
    assert permitted.returncode == 0, permitted.stderr
    assert machine.hub.store.repositories["dataset", "tester/all"].access == "public"


def test_others_train_on_it_with_nothing_but_its_name_and_then_offline(
    machine: Machine, pushed: Any, tmp_path: Path
) -> None:
    other = Machine(machine.repo_root, tmp_path / "empty", tmp_path, machine.hub)
    other.corpus.mkdir()
    options = [
        *(option for option in tiny_run_overrides(tmp_path, tmp_path) if not option.startswith("paths.")),
        *("training.max_steps=2", "training.batch_size=2", f"paths.features_dir={ADDRESS}"),
    ]
    launch = ["-m", "accelerate.commands.launch", "--config_file"]
    launch += [str(machine.repo_root / "accelerate_configs" / "cpu_x2.yaml")]
    script = str(machine.repo_root / "scripts" / "train_whisper.py")
    ran = other.python([*launch, script, "--config", "nano_whisper", *options], HF_TOKEN=TOKEN)
    assert ran.returncode == 0, ran.stderr[-3000:]
    facts = json.loads((tmp_path / "run" / "run_facts.json").read_text(encoding="utf-8"))
    audit = json.loads((machine.corpus / "data/splits/audit.json").read_text(encoding="utf-8"))
    assert facts["split_hash"] == audit["split_hash"]
    commit = machine.hub.store.repositories["dataset", REPOSITORY].commit_at("main").sha
    assert facts["features"] == f"{ADDRESS}@{commit}"
    shard_downloads = [r for r in machine.hub.requests if r.startswith("GET") and r.endswith(".arrow")]
    assert len(shard_downloads) == len(set(shard_downloads)), "two processes download once"
    assert not list(other.corpus.iterdir())

    num_requests = len(machine.hub.requests)
    offline = other.run(
        *("train_whisper.py", "--config", "nano_whisper", "--dry_run", *options), HF_HUB_OFFLINE="1"
    )
    assert offline.returncode == 0, offline.stderr[-3000:]
    assert len(machine.hub.requests) == num_requests
    assert not other.network_record.exists()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


def test_streamed_training_is_the_same_training_without_the_files(
    machine: Machine, pushed: Any, tmp_path: Path
) -> None:
    other = Machine(machine.repo_root, tmp_path / "empty", tmp_path / "other", machine.hub)
    other.corpus.mkdir()
    losses = {}
    for where, name in ((machine, "local"), (other, "streamed")):
        options = [
            *(o for o in tiny_run_overrides(tmp_path, tmp_path / name) if not o.startswith("paths.")),
            *("training.max_steps=6", "training.batch_size=2", "dataloader.num_workers=2"),
        ]
        if name == "streamed":
            options += [f"paths.features_dir={ADDRESS}", "data.stream_features=true"]
        ran = where.run("train_whisper.py", "--config", "nano_whisper", *options, HF_TOKEN=TOKEN)
        assert ran.returncode == 0, ran.stderr[-3000:]
        assert ("come over the network in every epoch" in ran.stderr) == (name == "streamed")
        metrics = next((tmp_path / name / "run" / "metrics").glob("*_metrics.json"))
        history = json.loads(metrics.read_text(encoding="utf-8"))["history"]
        losses[name] = [entry["loss"] for entry in history if "loss" in entry]
    assert len(losses["local"]) == 6
    assert losses["streamed"] == losses["local"]
    downloaded = {path.parent.name for path in (other.folder / "hf_home").rglob("*.arrow")}
    assert downloaded == {"dev", "rows"}


OPENING = """
import json, os, sys
from vietst.data.features import INPUT_KINDS
from vietst.data.hub_features import open_hub_features
from vietst.data.streaming import StreamedUtteranceDataset
from vietst.errors import VietstError
told = {}
for name, (address, kind, token) in json.loads(sys.argv[1]).items():
    os.environ.pop("HF_TOKEN", None)
    if token:
        os.environ["HF_TOKEN"] = token
    try:
        if name.startswith("streamed"):
            features = open_hub_features(address, INPUT_KINDS[kind], streamed=("train", "test"))
            rows = StreamedUtteranceDataset(features.cache["train"], features.remote_shards["train"])
            fetched = rows.__getitems__(range(len(rows)))
            told[name] = [dict(row, features=row["features"].hex()) for row in fetched]
            continue
        cache = open_hub_features(address, INPUT_KINDS[kind]).cache
        told[name] = {s: [dict(row, features=row["features"].hex()) for row in cache[s]] for s in cache}
    except VietstError as error:
        told[name] = str(error)
print("TOLD", json.dumps(told))
"""


def opened(machine: Machine, folder: Path, cases: dict[str, tuple[str, str, str | None]]) -> dict[str, Any]:
    """The rows of every split, or the error's text, in a process with an empty Hub cache."""
    finished = subprocess.run(
        [sys.executable, "-c", OPENING, json.dumps(cases)],
        env=machine.hub.client_environment(folder / "hf_home"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    told: dict[str, Any] = json.loads(finished.stdout.rpartition("TOLD ")[2])
    return told


def publish(machine: Machine, name: str, change: Any = None) -> str:
    """A public copy of the pushed repository; `change` gets its files to change them."""
    store = machine.hub.store
    files = repository_files(machine)
    if change is not None:
        change(files)
    repository = store.create("dataset", f"tester/{name}", "public")
    stored = {path: store.lfs_file(store.add_content(data)) for path, data in files.items()}
    store.add_commit(repository, "main", stored, "files")
    return f"hf://datasets/tester/{name}"


def with_other_text(files: dict[str, bytes]) -> None:
    path = next(path for path in files if "/train/data-00000" in path)
    files[path] = files[path].replace(b"Deploy", b"Delete", 1)


def without_a_shard(files: dict[str, bytes]) -> None:
    del files[next(path for path in files if "/dev/data-00000" in path)]


def without_a_train_shard(files: dict[str, bytes]) -> None:
    del files[next(path for path in files if "/train/data-00000" in path)]


def of_other_code(files: dict[str, bytes]) -> None:
    path = next(path for path in files if path.endswith("feature_card.json"))
    ours = f'"feature_code_version": {FEATURE_CODE_VERSION}'.encode()
    files[path] = files[path].replace(ours, b'"feature_code_version": 99')


def with_card_of_another(files: dict[str, bytes]) -> None:
    path = next(path for path in files if path.endswith("feature_card.json"))
    files[path] = b'["not a card"]'


def leading_outside(files: dict[str, bytes]) -> None:
    path = next(path for path in files if path.endswith("train/state.json"))
    state = json.loads(files[path])
    state["_data_files"] = [{"filename": "../../../../outside.arrow"}]
    files[path] = json.dumps(state).encode()


def test_what_is_opened_is_what_was_pushed_and_all_else_is_refused(
    machine: Machine, pushed: Any, tmp_path: Path
) -> None:
    import datasets

    cases = {
        # Who was let in once may go on with what was downloaded then: those without a token come first.
        "private": (ADDRESS, KIND, None),
        "wrong token": (ADDRESS, KIND, "hf_wrong"),
        "pushed": (ADDRESS, KIND, TOKEN),
        "names elsewhere are not followed": (publish(machine, "outside", leading_outside), KIND, None),
        "missing": ("hf://datasets/tester/missing", KIND, TOKEN),
        "revision": (f"{ADDRESS}@v9", KIND, TOKEN),
        "no address": ("hf://datasets/../..@x", KIND, None),
        "other kind": (ADDRESS, "log_mel-128", TOKEN),
        "other code": (publish(machine, "code", of_other_code), KIND, None),
        "no features": (publish(machine, "others", lambda files: files.clear()), KIND, None),
        "no card": (publish(machine, "no-card", with_card_of_another), KIND, None),
        "other text": (publish(machine, "text", with_other_text), KIND, None),
        "lost shard": (publish(machine, "lost", without_a_shard), KIND, None),
        "streamed": (ADDRESS, KIND, TOKEN),
        "streamed from a lost shard": (publish(machine, "no-train", without_a_train_shard), KIND, None),
    }
    told = opened(machine, tmp_path, cases)
    local = datasets.load_from_disk(str(next((machine.corpus / "data/features").glob(f"{KIND}-*"))))
    rows = {s: [dict(row, features=row["features"].hex()) for row in local[s]] for s in local}
    assert told.pop("pushed") == rows
    assert told.pop("names elsewhere are not followed") == rows
    streamed = told.pop("streamed")
    assert [row.pop("row_index") for row in streamed] == list(range(len(rows["train"])))
    assert streamed == rows["train"]
    expected = {
        "private": "set HF_TOKEN",
        "wrong token": "refuses the token",
        "missing": "knows no such repository",
        "revision": "no such branch, tag or commit",
        "no address": "hf://datasets/OWNER/NAME",
        "other kind": f"only {KIND}-",
        "other code": f"feature code version 99, this is version {FEATURE_CODE_VERSION}",
        "no features": "no features of this project",
        "no card": "only",
        "other text": "whose hash stands in the folder's name",
        "lost shard": "all shards",
        "streamed from a lost shard": "data.stream_features",
    }
    assert told.keys() == expected.keys()
    for name, part in expected.items():
        assert part in told[name], (name, told[name])


@pytest.mark.parametrize(
    ("repository", "arguments", "environment", "parts"),
    [
        ("tester/new", (), {"HF_TOKEN": ""}, ("no token", "HF_TOKEN")),
        ("tester/new", (), {"HF_TOKEN": "hf_wrong"}, ("refuses the token",)),
        ("tester/new", (), {"HF_ENDPOINT": "http://127.0.0.1:9"}, ("does not answer", "HF_ENDPOINT")),
        ("tester/taken", (), {}, ("the name is taken", "weights.bin")),
        ("tester/seen", (), {}, ("a public repository, and what is published is to be private",)),
        (REPOSITORY, ("--public",), {}, ("a private repository, and what is published is to be public",)),
        ("a b", (), {}, ("owner/name",)),
    ],
    ids=["no token", "wrong token", "no network", "taken", "public", "private", "no name"],
)
def test_a_push_that_cannot_be_is_refused_before_anything_is_built(
    machine: Machine,
    pushed: Any,
    tmp_path: Path,
    repository: str,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    parts: tuple[str, ...],
) -> None:
    store = machine.hub.store
    if repository == "tester/taken" and ("dataset", repository) not in store.repositories:
        weights = {"weights.bin": store.lfs_file(store.add_content(b"weights"))}
        store.add_commit(store.create("dataset", repository, "private"), "main", weights, "weights")
    if repository == "tester/seen" and ("dataset", repository) not in store.repositories:
        store.create("dataset", repository, "public")
    new = Machine(machine.repo_root, tmp_path / "corpus", tmp_path, machine.hub)
    shutil.copytree(machine.corpus / "data" / "export", new.corpus / "data" / "export")
    assert_refused(push(new, *arguments, repository=repository, **environment), repository, *parts)
    assert not (new.corpus / "data" / "features").exists()


def test_a_push_replaces_the_cache_of_its_kind_and_keeps_the_others(
    machine: Machine, pushed: Any, tmp_path: Path
) -> None:
    other = Machine(machine.repo_root, tmp_path / "corpus", tmp_path, machine.hub)
    shutil.copytree(machine.corpus, other.corpus)
    both = (
        "--kinds",
        f"{KIND},waveform-16k",
        "--num_proc",
        "1",
        "--push_to_hub",
        "tester/growing",
        "--public",
    )
    first = other.run("build_features.py", *both, HF_TOKEN=TOKEN)
    assert first.returncode == 0, first.stderr
    assert "the speech itself" in first.stderr
    manifest = other.corpus / "data/export/manifest.tsv"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("số 3", "số ba"), encoding="utf-8")
    second = push(other, "--public", repository="tester/growing")
    assert second.returncode == 0, second.stderr
    names = sorted(
        path.partition("/")[0]
        for path in repository_files(machine, "tester/growing")
        if path.endswith("feature_card.json")
    )
    assert [name.rpartition("-")[0] for name in names] == [KIND, "waveform-16k"]
    assert names[0] in {path.name for path in (other.corpus / "data/features").iterdir()}
    card = repository_files(machine, "tester/growing")["README.md"].decode()
    assert "| `waveform-16k` |" in card
    assert f"| `{KIND}` |" in card
