"""Guide: high WER/BLEU despite correct output, mended by stripping punctuation and case for the evaluation.

Case and punctuation are no errors of speech recognition, so WER and CER do not see them; tones are. BLEU is a
score of the text as it is, whose figures are compared between papers: it sees both (the guide stripped them
there too).
"""

import csv
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.data.tiny_splits import write_splits
from tests.tiny_runs import history, tiny_e2e_run_overrides, tiny_run_overrides
from vietst.config import load_config
from vietst.data.feature_cache import build_feature_cache
from vietst.data.features import LOG_MEL_80_NANO, WAVEFORM_16K
from vietst.training.runner import run_training

TRANSCRIPT, TRANSLATION = "Mình sẽ fix cái bug này, nhé!", "Mình sẽ sửa cái lỗi này, nhé!"
BARE = "mình sẽ FIX cái bug này nhé", "mình sẽ sửa cái lỗi này nhé"
OTHER_TONE = "Mình sẽ fix cài bug này, nhé!", "Mình sẽ sửa cài lỗi này, nhé!"

SPEAKERS = {
    "whisper": ("nano_whisper", tiny_run_overrides, LOG_MEL_80_NANO),
    "e2e": ("nano_e2e", tiny_e2e_run_overrides, WAVEFORM_16K),
}


def write_same_sentence(source: Path, target: Path, texts: tuple[str, str], splits: Sequence[str]) -> None:
    """Splits with the clips of `source`, all of which now say the same."""
    written = {}
    for split in splits:
        with (source / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        written[split] = [row | {"transcript": texts[0], "translation": texts[1]} for row in rows]
    write_splits(target, written)


@pytest.fixture
def run_dir(architecture: str, tiny_corpus: Path, tmp_path: Path) -> Path:
    """A model that has learned one sentence, with its case and punctuation, and always says it.

    Its dev split has the same sentence without them.
    """
    splits, features = tmp_path / "splits", tmp_path / "features"
    config, overrides, kind = SPEAKERS[architecture]
    source = tiny_corpus / "data" / "splits"
    write_same_sentence(source, splits, (TRANSCRIPT, TRANSLATION), ("train", "test"))
    write_same_sentence(source, splits, BARE, ("dev",))
    shutil.copy(source / "audit.json", splits)
    build_feature_cache(splits, features, kind, audio_root=tiny_corpus, num_proc=1)
    return run_training(
        load_config(
            config,
            [
                *overrides(tiny_corpus, tmp_path),
                f"paths.splits_dir={splits.as_posix()}",
                f"paths.features_dir={features.as_posix()}",
                "training.max_steps=150",
                "training.eval_steps=150",
                "training.save_steps=150",
                "training.learning_rate=1e-2",
                "loss.ctc_weight=0",
                "evaluation.max_new_tokens_base=20",
            ],
        )
    )


def test_case_and_punctuation_are_no_errors_of_recognition_and_tones_are(
    run_dir: Path, evaluate: Callable[..., dict[str, Any]], tiny_corpus: Path, tmp_path: Path
):
    assert history(run_dir, "eval_wer") == history(run_dir, "eval_cer") == [0.0]
    assert history(run_dir, "eval_bleu")[0] < 50

    same = evaluate(run_dir, tmp_path / "splits" / "test.csv")
    assert same["wer"] == same["wer_raw"] == 0
    assert same["bleu"] == pytest.approx(100)
    scores = {}
    for name, texts in (("bare", BARE), ("other tone", OTHER_TONE)):
        write_same_sentence(tiny_corpus / "data" / "splits", tmp_path / name, texts, ("test",))
        scores[name] = evaluate(run_dir, tmp_path / name / "test.csv")
    assert scores["bare"]["wer"] == scores["bare"]["cer"] == 0
    assert scores["bare"]["wer_raw"] > 0
    assert scores["bare"]["bleu"] < 50
    assert scores["bare"]["bleu_normalized"] == pytest.approx(100)
    assert scores["other tone"]["wer"] == pytest.approx(100 / 7), "one of seven words"
