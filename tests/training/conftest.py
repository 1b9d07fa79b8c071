"""What several tests are given: an extra set without mistakes of the base model; the batches of a training.

What the base writes now is taken for the set's transcripts: its WER before the training is then 0.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tiny_runs import tiny_e2e_run_overrides, tiny_run_overrides

# Nothing heavy is imported before the environment of the tests is set.
if TYPE_CHECKING:
    from vietst.config import LoadedConfig

OVERRIDES = {"whisper": tiny_run_overrides, "e2e": tiny_e2e_run_overrides}


@pytest.fixture(scope="session")
def base(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """A model of a kind that writes words, and a set of these: audio paths and transcripts, no more."""
    from vietst.config import load_config
    from vietst.data.features import input_kind_of
    from vietst.data.splits import read_split
    from vietst.data.tables import write_table
    from vietst.evaluation.decode import DecodingOptions, decode_rows
    from vietst.models.architectures import ARCHITECTURES
    from vietst.training.runner import run_training

    @functools.cache
    def of_kind(kind: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(f"base-{kind}")
        quick = ("training.max_steps=20", "training.learning_rate=1e-2", "loss.ctc_weight=0")
        unwatched = ("training.eval_strategy=no", "training.load_best_model_at_end=false")
        overrides = [*OVERRIDES[kind](tiny_corpus, folder), *quick, *unwatched]
        model_dir = run_training(load_config(f"nano_{kind}", overrides))
        architecture, rows = ARCHITECTURES[kind], read_split(tiny_corpus / "data" / "splits", "test")
        processor = architecture.load_processor(str(model_dir))
        decoded = decode_rows(
            rows,
            audio_root=tiny_corpus,
            input_kind=input_kind_of(processor.feature_extractor),
            architecture=architecture,
            model=architecture.load_model(str(model_dir)).eval(),
            tokenizer=processor.tokenizer,
            options=DecodingOptions(("transcribe",), "vi", 16, 1, 1.0, 6),
        )
        written = [
            {"audio_path": row["audio_path"].removeprefix("data/"), "transcript": made.transcript_hypothesis}
            for row, made in zip(rows, decoded.predictions, strict=True)
        ]
        write_table(folder / "written.tsv", written, ("audio_path", "transcript"))
        return model_dir, folder / "written.tsv"

    return of_kind


@pytest.fixture
def watched(base, tiny_corpus: Path, tmp_path: Path) -> Callable[..., "LoadedConfig"]:
    """`watched("whisper", "training.learning_rate=1e-2")`: two evaluations of a base's own words."""
    from vietst.config import load_config

    def load(kind: str, *overrides: str) -> "LoadedConfig":
        model_dir, written = base(kind)
        own_words = f"{{path: {written.as_posix()}, audio_root: {(tiny_corpus / 'data').as_posix()}}}"
        return load_config(
            f"nano_{kind}",
            [
                *OVERRIDES[kind](tiny_corpus, tmp_path),
                *(f"model.name={model_dir.as_posix()}", "training.eval_steps=2", "training.save_steps=2"),
                *("training.load_best_model_at_end=false", "training.save_total_limit=null"),
                f"evaluation.extra_sets={{own_words: {own_words}}}",
                *overrides,
            ],
        )

    return load


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The batches of all trainings of the test, each a list of row numbers."""
    from tests.training.recording_run import record_batches
    from vietst.training.trainer import SpeechTrainer

    monkeypatch.setattr(SpeechTrainer, "training_step", SpeechTrainer.training_step)  # puts it back
    batches: list[list[int]] = []
    record_batches(batches)
    return batches
