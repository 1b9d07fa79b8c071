"""A Space's folder runs by itself: without this checkout, and with nothing but its requirements installed."""

import os
import re
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests.hub.server import LoopbackHub
from tests.memorizing_model import Clip
from tests.patience import HANGS_AFTER_S
from tests.ports import free_port

needs_gradio = pytest.mark.skipif(find_spec("gradio") is None, reason="needs gradio (extra demo)")

START_ALONE = """
import runpy, sys

class OnlyRequirements:
    def __init__(self, finders, allowed):
        self.finders, self.allowed = finders, allowed | sys.stdlib_module_names

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.allowed or name.startswith("_sysconfigdata"):
            specs = (finder.find_spec(name, path, target) for finder in self.finders)
            return next((spec for spec in specs if spec is not None), None)

    def find_distributions(self, *context):
        for finder in self.finders:
            yield from getattr(finder, "find_distributions", lambda *_: ())(*context)

app = sys.argv[2]
installed = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.meta_path[:] = [OnlyRequirements(installed, set(sys.argv[1].split(",")))]
sys.path[0] = app.rpartition("/")[0]
runpy.run_path(app, run_name="__main__")
"""
"""Runs app.py as `python app.py` would in an environment of these top-level modules."""


def write_space(repo_root: Path, model: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(repo_root / "scripts/demo.py"), "--model", model, "--space", str(folder)],
        capture_output=True,
        text=True,
        cwd=folder.parent,
    )


def installed_with(requirements: list[str]) -> set[str]:
    """Top-level modules of these distributions and all that they depend on."""
    waiting, seen = [Requirement(line) for line in requirements], set[str]()
    while waiting:
        requirement = waiting.pop()
        name = requirement.name.lower().replace("_", "-")
        extras = requirement.extras or {""}
        key = f"{name}{sorted(extras)}"
        if key in seen:
            continue
        seen.add(key)
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another platform
            continue
        for line in needed:
            dependency = Requirement(line)
            marker = dependency.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(dependency)
    names = {key.partition("[")[0] for key in seen}
    modules = metadata.packages_distributions()
    return {
        module
        for module, distributions in modules.items()
        if any(distribution.lower().replace("_", "-") in names for distribution in distributions)
    }


@needs_gradio
def test_the_folder_names_what_a_space_needs(repo_root: Path, tmp_path: Path) -> None:
    written = write_space(repo_root, "tester/model", tmp_path / "space")
    assert written.returncode == 0, written.stderr
    assert [path.parent.name for path in (tmp_path / "space").rglob("README.md")] == ["space"]
    readme = (tmp_path / "space" / "README.md").read_text(encoding="utf-8")
    facts = yaml.safe_load(readme.split("---")[1])
    assert (facts["sdk"], facts["sdk_version"]) == ("gradio", metadata.version("gradio"))
    assert (facts["app_file"], facts["models"]) == ("app.py", ["tester/model"])
    assert len(facts["short_description"]) <= 60
    requirements = (tmp_path / "space" / "requirements.txt").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in requirements)
    again = write_space(repo_root, "tester/model", tmp_path / "space")
    assert again.returncode == 2
    assert "a new or empty folder" in again.stderr


def test_a_model_that_is_not_on_the_hub_is_refused(repo_root: Path, tmp_path: Path) -> None:
    (tmp_path / "outputs" / "mine").mkdir(parents=True)
    for model in ("outputs/mine", "mine", "/no/such/id"):
        refused = write_space(repo_root, model, tmp_path / "space")
        assert refused.returncode == 2
        assert "push the model first" in refused.stderr
    assert not (tmp_path / "space").exists()


def test_gradio_that_is_missing_is_said_with_the_line_that_installs_it(
    repo_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "gradio.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'gradio'\")", encoding="utf-8"
    )
    ran = subprocess.run(
        [sys.executable, str(repo_root / "scripts/demo.py"), "--model", "x"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(repo_root)])},
    )
    assert ran.returncode == 2
    assert 'pip install -e ".[demo]"' in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_port_that_is_none_is_refused_before_a_model_is_loaded(repo_root: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(repo_root / "scripts/demo.py"), "--model", "x", "--port", "78600"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2
    assert "'78600' is no port" in ran.stderr


@needs_gradio
@pytest.mark.slow
def test_the_space_runs_by_itself_with_a_model_of_the_hub(
    repo_root: Path, tmp_path: Path, memorizing_model: tuple[Path, list[Clip]]
) -> None:
    from gradio_client import Client, handle_file

    model, (clip, *_) = memorizing_model
    space = tmp_path / "space"
    assert write_space(repo_root, "tester/tiny", space).returncode == 0
    requirements = (space / "requirements.txt").read_text(encoding="utf-8").split()
    allowed = {"vietst", *installed_with([*requirements, "gradio"])}
    port = free_port()
    with LoopbackHub(tmp_path / "hub") as hub, (tmp_path / "log").open("w") as log:
        hub.store.publish("tester/tiny", model)
        environment = hub.client_environment(tmp_path / "hf_home", GRADIO_SERVER_PORT=str(port))
        del environment["PYTHONPATH"]
        process = subprocess.Popen(
            [sys.executable, "-c", START_ALONE, ",".join(allowed), str(space / "app.py")],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith(f"Open http://127.0.0.1:{port}"), (tmp_path / "log").read_text()
            client = Client(f"http://127.0.0.1:{port}", verbose=False, analytics_enabled=False)
            page = client.predict(handle_file(clip.audio), api_name="/transcribe")
        finally:
            process.terminate()
            process.wait(timeout=HANGS_AFTER_S)
            process.stdout.close()
    text = re.sub(r"<[^>]+>", "", page)
    assert clip.transcript in text
    assert clip.translation in text
