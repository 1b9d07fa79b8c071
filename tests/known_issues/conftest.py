"""The faults of the program that the guide's troubleshooting table names, each with a file of its own:

| guide                                              | here                            |
|----------------------------------------------------|---------------------------------|
| CUDA out of memory                                 | test_cuda_out_of_memory.py      |
| RuntimeError: backward through graph twice         | test_backward_twice.py          |
| TypeError: num_items_in_batch (E2E)                | test_num_items_in_batch.py      |
| IndexError: piece id out of range (E2E eval)       | test_piece_id_out_of_range.py   |
| TypeError: shared tensors (E2E saving)             | test_shared_tensors.py          |
| KeyError: 'audio'                                  | test_key_error_audio.py         |
| High WER/BLEU despite correct output               | test_scores_of_correct_output.py|

Its other rows are advice: slow training, import errors, WER not improving.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vietst.config import LoadedConfig


@pytest.fixture(params=["whisper", "e2e"])
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tiny_config(
    architecture: str,
    nano_config: Callable[..., "LoadedConfig"],
    nano_e2e_config: Callable[..., "LoadedConfig"],
) -> Callable[..., "LoadedConfig"]:
    """A tiny run of the architecture, on both tasks."""
    return {"whisper": nano_config, "e2e": nano_e2e_config}[architecture]


@pytest.fixture
def evaluate(architecture: str, tiny_corpus: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`evaluate(run_dir, test_csv)`: what scripts/run_evaluation.py does; returns the metrics."""
    from vietst.evaluation.beside import BesideOptions
    from vietst.evaluation.evaluate_model import evaluate_model
    from vietst.evaluation.scoring import ScoringOptions, SplitOptions

    def run(run_dir: Path, test_csv: Path = tiny_corpus / "data" / "splits" / "test.csv") -> dict[str, Any]:
        return evaluate_model(
            model_dir=str(run_dir),
            model_type=architecture,
            task=None,
            split=SplitOptions(test_csv, tiny_corpus, 8, None, 0),
            scoring=ScoringOptions(tmp_path / "results"),
            beside=BesideOptions(),
        )

    return run
