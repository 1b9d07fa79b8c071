"""What every test can rely on: one thread each, no network, no accelerator, a Hugging Face home of its own.

The environment is set when pytest starts, before any test module imports torch or datasets, and reaches the
subprocesses that tests start. Hypothesis draws the same examples every time and watches no clock; with
`--hypothesis-profile=other_examples` it looks for others.
"""

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.tiny_runs import make_tiny_corpus, tiny_e2e_run_overrides, tiny_run_overrides

if TYPE_CHECKING:
    from tests.memorizing_model import Clip
    from vietst.config import LoadedConfig

REPO_ROOT = Path(__file__).resolve().parents[1]

# Examples that are drawn anew each time would fail the change that happens to be tested then.
hypothesis.settings.register_profile(
    "other_examples", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.register_profile(
    "same_examples", hypothesis.settings.get_profile("other_examples"), derandomize=True
)
hypothesis.settings.load_profile("same_examples")

_TEST_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # tiny models are slower with more, and xdist workers would fight
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",  # a test that serves its own Hub takes this away again for its subprocess
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MPLBACKEND": "Agg",
    "NO_PROXY": "127.0.0.1,localhost",  # servers that tests start
    "no_proxy": "127.0.0.1,localhost",
    "PYTHONUTF8": "1",
}
_REMOVED = (
    "HF_TOKEN",
    "HF_ENDPOINT",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
)


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment once, in the process that starts the others (xdist's workers inherit it)."""
    if hasattr(config, "workerinput"):
        return
    for name in _REMOVED:
        os.environ.pop(name, None)
    os.environ.update(_TEST_ENVIRONMENT)
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="vietst-tests-hf-")
    # Subprocesses find the package without being installed, whatever their current folder is.
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPO_ROOT), *([inherited] if inherited else [])])


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """What a test draws without a seed of its own does not depend on the tests before it."""
    random.seed(0)
    for name, seed in (("numpy.random", "seed"), ("torch", "manual_seed")):
        if name in sys.modules:  # or else it costs tests of texts the seconds of its import
            getattr(sys.modules[name], seed)(0)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The checkout: `repo_root / "scripts" / "x.py"` is how tests start a script."""
    return REPO_ROOT


@pytest.fixture(scope="session")
def shared_data(repo_root: Path) -> Path:
    """Real speech, texts and tokenizers beside the checkout (they are not part of the repository)."""
    path = repo_root.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no real data at {path}: this test needs it")
    return path


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make_tiny_corpus` makes; all tests share it."""
    return make_tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def memorizing_model(
    tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list["Clip"]]:
    """A model folder, and four clips that the model transcribes and translates without a fault."""
    from tests.memorizing_model import write_memorizing_model

    folder = tmp_path_factory.mktemp("memorizing_model") / "tiny"
    return folder, write_memorizing_model(folder, tiny_corpus)


@pytest.fixture
def nano_config(tiny_corpus: Path, tmp_path: Path) -> Callable[..., "LoadedConfig"]:
    """`nano_config("training.max_steps=3")`: a tiny `nano_whisper` run over the tiny corpus."""
    from vietst.config import load_config

    def load(*overrides: str) -> "LoadedConfig":
        return load_config("nano_whisper", [*tiny_run_overrides(tiny_corpus, tmp_path), *overrides])

    return load


@pytest.fixture
def nano_e2e_config(tiny_corpus: Path, tmp_path: Path) -> Callable[..., "LoadedConfig"]:
    """The same of `nano_e2e`."""
    from vietst.config import load_config

    def load(*overrides: str) -> "LoadedConfig":
        return load_config("nano_e2e", [*tiny_e2e_run_overrides(tiny_corpus, tmp_path), *overrides])

    return load


@pytest.fixture
def no_recorded_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings in this process record nothing for the doctor, which would be one decoding more to count."""
    monkeypatch.setattr("vietst.training.runner.record_release", lambda run_dir: None)
