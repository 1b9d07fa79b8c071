"""Packaging, tested versions, launch configurations, and the commands that a new user types first."""

import configparser
import fnmatch
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)(; .+)?$")

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash scripts need bash")


@pytest.fixture(scope="session")
def setup_cfg(repo_root: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(repo_root / "setup.cfg", encoding="utf-8")
    return parser


def requirements(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="session")
def pins(repo_root: Path) -> dict[str, str]:
    """Normalized package name → version of constraints.txt."""
    found = {}
    for line in (repo_root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            pin = PIN.match(line)
            assert pin, f"one exact version on each line, nothing else: {line}"
            found[normalized(pin[1])] = pin[2]
    return found


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="session")
def setup_environment(repo_root: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(
        "setup_environment", repo_root / "scripts/setup_environment.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- packaging -------------------------------------------------------------------------------------------


def test_every_requirement_is_pinned_within_its_range(
    setup_cfg: configparser.ConfigParser, pins: dict[str, str]
) -> None:
    listed = requirements(setup_cfg["options"]["install_requires"])
    for extra in setup_cfg["options.extras_require"].values():
        listed += requirements(extra)
    assert len(listed) > 30
    for requirement in listed:
        if requirement.name == "vietst":  # an extra that takes in others
            continue
        pin = pins[normalized(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} does not allow {pin}"


def test_the_tests_run_with_the_pinned_versions(pins: dict[str, str]) -> None:
    installed = {normalized(found.name): found.version for found in metadata.distributions()}
    wrong = {
        name: f"{installed[name]} is installed, {pin} pinned"
        for name, pin in pins.items()
        if name in installed and installed[name].partition("+")[0] != pin
    }
    assert not wrong


def test_deepspeed_is_asked_for_on_linux_only(setup_cfg: configparser.ConfigParser) -> None:
    (deepspeed,) = [
        r for r in requirements(setup_cfg["options"]["install_requires"]) if r.name == "deepspeed"
    ]
    assert deepspeed.marker is not None
    assert deepspeed.marker.evaluate({"sys_platform": "linux"})
    assert not deepspeed.marker.evaluate({"sys_platform": "win32"})


def test_every_folder_of_the_package_is_a_package(repo_root: Path) -> None:
    folders = {path.parent for path in (repo_root / "vietst").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_every_data_file_of_the_package_is_shipped(
    repo_root: Path, setup_cfg: configparser.ConfigParser
) -> None:
    patterns = setup_cfg["options.package_data"]["vietst"].split()
    files = [
        path.relative_to(repo_root / "vietst").as_posix()
        for path in (repo_root / "vietst").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != "README.md"
    ]
    assert "configs/base.yaml" in files
    assert [file for file in files if not any(fnmatch.fnmatch(file, pattern) for pattern in patterns)] == []


# --- which torch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "gpu", "build"),
    [
        ("Windows", None, None),  # the registry's build is for the CPU
        ("Windows", (8.6, 580), "cu126"),  # RTX 2050
        ("Windows", (9.0, 580), "cu126"),
        ("Windows", (12.0, 580), "cu130"),  # RTX 50
        ("Linux", (9.0, 580), None),  # the registry's build is for GPUs
        ("Linux", (7.5, 580), None),  # T4
        ("Linux", (7.0, 580), "cu126"),  # V100, which CUDA 13 does not know
        ("Linux", (9.0, 550), "cu126"),  # CUDA 13 wants a newer driver
        ("Linux", (10.0, 570), None),  # which is to be updated: CUDA 12.6 does not know the GPU
        ("Linux", None, "cpu"),
        ("Darwin", None, None),
    ],
)
def test_the_torch_build_fits_the_machine(
    system: str, gpu: tuple[float, int] | None, build: str | None, setup_environment: types.ModuleType
) -> None:
    assert setup_environment.torch_build(system, gpu) == build


def test_the_newest_gpu_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setup_environment: types.ModuleType
) -> None:
    answers = {
        "7.5, 550.54.15\n8.6, 550.54.15\n": (8.6, 550),
        "12.0, 580.159.04\n": (12.0, 580),
        "No devices were found\n": None,
    }
    monkeypatch.setattr(setup_environment.shutil, "which", lambda name: name)
    for stdout, gpu in answers.items():
        answer = subprocess.CompletedProcess([], 0, stdout=stdout)
        monkeypatch.setattr(setup_environment.subprocess, "run", lambda *_, answer=answer, **__: answer)
        assert setup_environment.newest_gpu() == gpu


@pytest.fixture
def windows_with_gpu(monkeypatch: pytest.MonkeyPatch, setup_environment: types.ModuleType) -> None:
    monkeypatch.setattr(setup_environment.platform, "system", lambda: "Windows")
    monkeypatch.setattr(setup_environment, "newest_gpu", lambda: (8.6, 560))


@pytest.mark.usefixtures("windows_with_gpu")
def test_windows_with_a_gpu_takes_the_pinned_torch_from_pytorchs_index(
    pins: dict[str, str], setup_environment: types.ModuleType
) -> None:
    assert setup_environment.torch_requirement() == [
        f"torch=={pins['torch']}+cu126",
        "--extra-index-url",
        "https://download.pytorch.org/whl/cu126",
    ]


def test_linux_without_gpu_and_without_pytorchs_index_takes_the_registrys_torch(
    monkeypatch: pytest.MonkeyPatch, setup_environment: types.ModuleType
) -> None:
    monkeypatch.setattr(setup_environment.platform, "system", lambda: "Linux")
    monkeypatch.setattr(setup_environment, "newest_gpu", lambda: None)
    monkeypatch.setattr(setup_environment, "answers", lambda url: False)
    assert setup_environment.torch_requirement() == []


# --- the environment is made once ------------------------------------------------------------------------


@pytest.fixture
def fake_checkout(
    tmp_path: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch, setup_environment: types.ModuleType
) -> list[list[str]]:
    """An own folder in place of the checkout; what would be run is written down instead."""
    for name in ("setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(repo_root / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    commands: list[list[str]] = []

    def write_down(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append([str(word) for word in command])
        return subprocess.CompletedProcess(command, 0, stdout="", stderr="")

    monkeypatch.setattr(setup_environment, "REPO_ROOT", tmp_path)
    monkeypatch.setattr(setup_environment, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(setup_environment, "STAMP", tmp_path / ".venv/stamp.json")
    monkeypatch.setattr(setup_environment, "torch_requirement", list)
    monkeypatch.setattr(setup_environment.subprocess, "run", write_down)
    return commands


def installs(
    commands: list[list[str]], arguments: list[str], monkeypatch: pytest.MonkeyPatch, module: types.ModuleType
) -> list[list[str]]:
    commands.clear()
    monkeypatch.setattr(sys, "argv", ["setup_environment.py", *arguments])
    assert module.main() == 0
    return [command for command in commands if "install" in command]


def test_installing_happens_once_for_each_state_of_the_dependencies(
    fake_checkout: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setup_environment: types.ModuleType,
) -> None:
    def run(*arguments: str) -> list[list[str]]:
        return installs(fake_checkout, list(arguments), monkeypatch, setup_environment)

    (command,) = run()
    assert command[-4:] == ["-c", "constraints.txt", "-e", "."]
    assert run() == []
    (command,) = run("--dev")
    assert command[-1] == ".[dev]"
    assert run() == [], "what the tests need contains what a run needs"
    with (tmp_path / "constraints.txt").open("a") as constraints:
        constraints.write("another==1.0\n")
    assert len(run()) == 1


def test_what_was_installed_without_a_gpu_is_installed_anew_beside_one_but_not_the_other_way_round(
    fake_checkout: list[list[str]], monkeypatch: pytest.MonkeyPatch, setup_environment: types.ModuleType
) -> None:
    def run_beside(gpu: tuple[float, int] | None) -> list[list[str]]:
        monkeypatch.setattr(setup_environment, "newest_gpu", lambda: gpu)
        return installs(fake_checkout, [], monkeypatch, setup_environment)

    monkeypatch.setattr(setup_environment, "has_cpu_torch", lambda: True)
    assert len(run_beside(None)) == 1  # a login node, say
    assert len(run_beside((9.0, 580))) == 1
    assert any("uninstall" in command and "torch" in command for command in fake_checkout)
    assert run_beside((9.0, 580)) == []
    assert run_beside(None) == []


def test_an_installation_that_stopped_is_taken_up_again(
    fake_checkout: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    setup_environment: types.ModuleType,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(**_: object) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(sys, "argv", ["setup_environment.py"])
    with monkeypatch.context() as patched:
        patched.setattr(setup_environment, "install", fail)
        assert setup_environment.main() == 2
    assert "error: the installation stopped" in capsys.readouterr().err
    assert len(installs(fake_checkout, [], monkeypatch, setup_environment)) == 1


# --- the commands of a new user --------------------------------------------------------------------------


@needs_bash
@pytest.mark.parametrize(
    "script",
    ["scripts/run_dev.sh", "scripts/run_prod.sh", "scripts/run_slurm.sbatch", "scripts/test.sh", ".ci/run"],
)
def test_shell_scripts_parse_and_name_files_that_exist(script: str, repo_root: Path) -> None:
    subprocess.run(["bash", "-n", repo_root / script], check=True)
    text = (repo_root / script).read_text(encoding="utf-8")
    for file in re.findall(r"(?:scripts|accelerate_configs)/\w+\.(?:py|sh|yaml)", text):
        assert (repo_root / file).is_file(), file


def test_the_windows_script_starts_the_same_things(repo_root: Path) -> None:
    batch = (repo_root / "scripts/run_dev.bat").read_text(encoding="ascii")
    shell = (repo_root / "scripts/run_dev.sh").read_text(encoding="utf-8")
    shell += (repo_root / "scripts/python_env.sh").read_text(encoding="utf-8")
    for step in ("[1/6] Install", "setup_environment.py", "run_pipeline.py dev", "VIETST_PYTHON"):
        assert step in batch
        assert step in shell


@needs_bash
@pytest.mark.skipif(os.name == "nt", reason="links to programs")
def test_without_a_python_that_is_new_enough_it_says_so(tmp_path: Path, repo_root: Path) -> None:
    bash, dirname = shutil.which("bash"), shutil.which("dirname")
    assert bash is not None
    assert dirname is not None
    (tmp_path / "dirname").symlink_to(dirname)
    old_python = tmp_path / "python3"
    old_python.write_text(f"#!{bash}\nexit 1\n")
    old_python.chmod(0o755)
    environment = {"PATH": str(tmp_path)}
    answer = subprocess.run(
        [bash, repo_root / "scripts/run_dev.sh"], env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 2
    assert "error: no Python 3.11 or newer found" in answer.stderr


def smoke(script: str, work_dir: Path, repo_root: Path) -> str:
    """Run a script's smoke form from another folder, and return what it printed."""
    answer = subprocess.run(
        ["bash", repo_root / "scripts" / script, "--smoke", "--work_dir", work_dir],
        cwd=work_dir.parent,
        env={**os.environ, "VIETST_PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-6000:]
    return answer.stdout


@needs_bash
@pytest.mark.slow
def test_run_dev_goes_from_nothing_to_charts_and_reuses_what_is_there(
    tmp_path: Path, repo_root: Path
) -> None:
    work_dir = tmp_path / "một thư mục"
    printed = smoke("run_dev.sh", work_dir, repo_root)
    for step in range(1, 7):
        assert f"[{step}/6]" in printed
    for file in (
        "data/export/manifest.tsv",
        "data/splits/audit.json",
        "outputs/nano_whisper/model.safetensors",
        "outputs/nano_whisper/train_results.json",
        "outputs/results/nano_whisper_metrics.json",
        "outputs/results/nano_whisper_predictions.csv",
        "outputs/charts/training_loss.png",
        "outputs/charts/wer_comparison.png",
        "outputs/charts/bleu_comparison.png",
    ):
        assert (work_dir / file).is_file(), file
    model = (work_dir / "outputs/nano_whisper/model.safetensors").read_bytes()
    again = smoke("run_dev.sh", work_dir, repo_root)
    assert "is trained" in again
    assert "make_sample_corpus.py" not in again
    assert "run_evaluation.py" not in again
    assert (work_dir / "outputs/nano_whisper/model.safetensors").read_bytes() == model


@needs_bash
@pytest.mark.slow
def test_run_prod_runs_on_two_cpu_processes_in_its_smoke_form(tmp_path: Path, repo_root: Path) -> None:
    printed = smoke("run_prod.sh", tmp_path / "prod", repo_root)
    assert "cpu_x2.yaml" in printed
    results = sorted((tmp_path / "prod/outputs/results").glob("*_metrics.json"))
    assert len(results) == 2, "both architectures"
    for metrics in results:
        run_dir = tmp_path / "prod/outputs" / metrics.name.removesuffix("_metrics.json")
        environment = json.loads((run_dir / "environment.json").read_text(encoding="utf-8"))
        assert environment["world_size"] == 2
