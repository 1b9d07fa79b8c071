"""The doctor on an installation: what is wrong is named, with what to do, and no check ends the rest."""

import functools
import os
import shutil
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path

import pytest
import torch

from tests.hub.server import TOKEN, LoopbackHub
from tests.patience import HANGS_AFTER_S
from vietst.doctor import devices, disks, packages
from vietst.doctor.findings import Finding, Status, format_finding, run_checks
from vietst.doctor.fresh_process import run_in_fresh_process
from vietst.doctor.installation import CHECKS
from vietst.errors import VietstError


def test_the_script_goes_on_behind_broken_packages_and_ends_with_1(repo_root: Path, tmp_path: Path) -> None:
    (tmp_path / "av.py").write_text("raise ImportError('libavcodec.so.62 is missing')")
    (tmp_path / "huggingface_hub.py").write_text("raise ImportError('cut off')")
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    finished = subprocess.run(
        [sys.executable, str(repo_root / "scripts" / "doctor.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    lines = finished.stdout.splitlines()
    broken = {line[9:].split("  ")[0]: line for line in lines if line.startswith("to mend")}
    assert {"ffmpeg's libraries (av)", "Hugging Face cache", "Hub"} <= broken.keys()
    assert "libavcodec.so.62 is missing" in broken["ffmpeg's libraries (av)"]
    assert "cut off" in broken["Hub"]
    for subject in (*CHECKS.keys() - {"extras", "folders", "shared memory"}, "folder outputs"):
        assert any(subject in line for line in lines), subject
    assert lines[-1].endswith(f"{len(broken)} to mend")


def test_a_check_that_fails_is_a_finding_and_the_others_go_on() -> None:
    def half_done():
        yield Finding(Status.OK, "first", "well")
        raise ZeroDivisionError("by zero")

    def users_mistake():
        raise VietstError(where="here", rule="one", found="two", do="three")

    def last():
        yield Finding(Status.WARNING, "last", "so so", "something")

    findings = list(run_checks({"a": half_done, "b": users_mistake, "c": last}))
    assert [finding.status for finding in findings] == ["ok", "to mend", "to mend", "warning"]
    assert "ZeroDivisionError: by zero" in findings[1].found
    assert findings[2] == Finding(Status.MEND, "b", "here: two", "three")
    assert "do: something" in format_finding(findings[3])


def test_code_that_kills_its_process_does_not_kill_this_one() -> None:
    works, said = run_in_fresh_process("import os; os.abort()", timeout_s=HANGS_AFTER_S)
    assert not works
    assert "code" in said
    failed = run_in_fresh_process("raise OSError('no such library')", HANGS_AFTER_S)
    assert failed == (False, "OSError: no such library")
    assert run_in_fresh_process("print(1); print('two')", HANGS_AFTER_S) == (True, "two")
    works, said = run_in_fresh_process("import time; time.sleep(3600)", timeout_s=0.5)
    assert not works
    assert "no end" in said


# --- packages ------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that asks for odd things."""
    (tmp_path / "setup.cfg").write_text(
        "[options]\npython_requires = >=2.7\ninstall_requires =\n    numpy >=99\n    no-such-package-at-all\n"
        "    # a remark\n    pytest\n    colorama >=99; sys_platform == 'plan9'\n"
        "[options.extras_require]\nspace =\n    jiwer >=99\n    numpy\nlater =\n    no-such-package-at-all\n"
    )
    (tmp_path / "constraints.txt").write_text("# tested\npytest==1.0\n")
    monkeypatch.setattr(packages, "read_needs", functools.partial(packages.read_needs, tmp_path))
    return tmp_path


@pytest.mark.usefixtures("checkout")
def test_missing_and_unfit_packages_come_with_the_command_that_mends_them() -> None:
    numpy, missing = packages.check_packages()
    assert numpy.status == missing.status == Status.MEND
    assert metadata.version("numpy") in numpy.found
    assert numpy.do == 'pip install "numpy>=99"'
    assert missing.found == "not installed"


@pytest.mark.usefixtures("checkout")
def test_an_extra_may_be_missing_but_not_unfit() -> None:
    unfit, later = packages.check_extras()
    assert (unfit.status, unfit.subject) == (Status.WARNING, "package jiwer")
    assert (later.status, later.subject) == (Status.OK, "extra later")
    assert 'pip install "no-such-package-at-all"' in later.found


def test_other_versions_than_the_tested_ones_are_named(checkout: Path) -> None:
    (checkout / "setup.cfg").write_text(
        "[options]\npython_requires = >=99\ninstall_requires =\n    pytest\n[options.extras_require]\n"
    )
    (finding,) = packages.check_packages()
    assert finding.status == Status.OK
    assert f"pytest {metadata.version('pytest')} (1.0)" in finding.found
    (python,) = packages.check_python()
    assert python.status == Status.MEND


def test_without_a_checkout_the_installed_packages_metadata_is_read(tmp_path: Path) -> None:
    try:
        metadata.distribution("vietst")
    except metadata.PackageNotFoundError:
        pytest.skip("vietst is not installed here, only on the path")
    of_package, of_checkout = packages.read_needs(tmp_path), packages.read_needs()
    names = {requirement.name for requirement in of_package.packages}
    assert {"torch", "transformers"} <= names
    assert "gradio" not in names
    assert {"demo", "eight-bit"} <= {extra for extra, _ in of_package.extras}
    assert of_package.python == of_checkout.python


# --- the machine ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cuda_build", "gpus", "visible", "status", "words"),
    [
        (None, [], None, Status.OK, "no NVIDIA GPU"),
        ("13.0", [], None, Status.WARNING, "no NVIDIA driver"),
        (None, ["NVIDIA GeForce RTX 2050, 550.1"], None, Status.MEND, "setup_environment.py"),
        ("13.0", ["NVIDIA H100, 470.0"], None, Status.MEND, "driver"),
        ("13.0", ["NVIDIA H100, 580.0"], "", Status.WARNING, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_why_pytorch_sees_no_gpu(
    cuda_build: str | None, gpus: list[str], visible: str | None, status: Status, words: str
) -> None:
    finding = devices.without_gpu(cuda_build, gpus, visible)
    assert finding.status == status
    assert words in finding.found + finding.do
    assert bool(finding.do) == (status != Status.OK)


def test_a_gpu_that_others_have_filled_is_not_taken_for_one_of_another_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    gpu = types.SimpleNamespace(name="NVIDIA H100", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    monkeypatch.setattr(torch, "ones", full)
    (finding,) = devices.check_gpu(0)
    assert finding.status == Status.MEND
    assert "no memory free" in finding.found
    assert "nvidia-smi" in finding.do


def test_a_folder_that_does_not_exist_yet_is_judged_by_where_it_would_be_made(tmp_path: Path) -> None:
    finding = disks.check_folder("outputs", tmp_path / "not" / "yet")
    assert "GB free" in finding.found
    assert not (tmp_path / "not").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_has_to_be_mended(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file, which holds no folders")
    assert disks.check_folder("outputs", tmp_path / "outputs" / "run").status == Status.MEND


@pytest.mark.parametrize(("free_gb", "status"), [(0.5, Status.MEND), (10, Status.WARNING), (100, Status.OK)])
def test_space(free_gb: float, status: Status, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=int(free_gb * 1e9))
    monkeypatch.setattr(disks.shutil, "disk_usage", lambda _: usage)
    assert disks.check_folder("outputs", tmp_path).status == status


# --- the Hub -------------------------------------------------------------------------------------------

CHECK_HUB = """
from vietst.doctor.findings import format_finding
from vietst.doctor.hub_account import check_hub
print(*map(format_finding, check_hub()), sep="\\n")
"""


def hub_says(hub: LoopbackHub, tmp_path: Path, **environment: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", CHECK_HUB],
        env=hub.client_environment(tmp_path / "hf_home", **environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_hubs_answer_to_every_kind_of_token(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        said = hub_says(hub, tmp_path, HF_TOKEN=TOKEN)
        assert said.count("ok ") == 2
        assert "tester" in said
        assert TOKEN not in said
        said = hub_says(hub, tmp_path, HF_TOKEN="hf_wrong")
        assert "to mend  Hub login" in said
        assert "refuses the token" in said
        assert "hf_wrong" not in said
        assert "warning  Hub login" in hub_says(hub, tmp_path)
    said = hub_says(hub, tmp_path, HF_TOKEN=TOKEN)
    assert "warning  Hub " in said
    assert "does not answer" in said
