"""Scoring goes block by block: the results are the same for blocks of any size, and memory hardly grows."""

import gc
import random
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from vietst.evaluation.blocks import BLOCK_SIZE
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.predictions_file import read_predictions, write_predictions
from vietst.evaluation.scoring import ScoredRun, ScoringOptions, write_run
from vietst.evaluation.significance import MIN_VIDEOS
from vietst.evaluation.without_model import baselines

MAX_BYTES_PER_UTTERANCE = 3000
"""Four texts and what is known of the recording take 900, counts of all scores 600."""

SAID = "mình họp với team về cái deadline của project này"
WRITTEN = "mình họp với nhóm về hạn chót của dự án này"


def made_up_predictions(num_utterances: int) -> list[Prediction]:
    generator = random.Random(num_utterances)

    def with_an_error(text: str) -> str:
        words = text.split()
        wrong = generator.randrange(len(words))
        return " ".join([*words[:wrong], generator.choice(words), *words[wrong + 1 :]])

    return [
        Prediction(
            id=f"video_{number // 10}/{number}",
            video_id=f"video_{number // 10}",
            duration_s=2.0 + number % 9,
            transcript=SAID,
            translation=WRITTEN,
            transcript_hypothesis=with_an_error(SAID),
            translation_hypothesis=with_an_error(WRITTEN),
            speaker_id=f"speaker_{number % 5}",
            level_dbfs=-20.0 - number % 7,
        )
        for number in range(num_utterances)
    ]


def test_the_size_of_blocks_does_not_matter_to_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = made_up_predictions(30)
    rows[3], rows[4] = replace(rows[3], translation=""), replace(rows[4], transcript="…")
    _, files = write_run(ScoredRun("run", rows, {}), ScoringOptions(tmp_path / "at_once"))
    monkeypatch.setattr("vietst.evaluation.blocks.BLOCK_SIZE", 2)
    _, files_in_blocks = write_run(ScoredRun("run", rows, {}), ScoringOptions(tmp_path / "in_blocks"))
    assert [path.read_bytes() for path in files_in_blocks] == [path.read_bytes() for path in files]


def score(folder: Path, num_utterances: int) -> None:
    """From a predictions file to results and report, baselines among them."""
    rows = read_predictions(folder / f"{num_utterances}.csv")
    beside = baselines(rows, [p.transcript for p in rows], [p.translation for p in rows], seed=1)
    write_run(ScoredRun("run", rows, {}), ScoringOptions(folder), beside)


def peak_bytes(folder: Path, num_utterances: int) -> int:
    """What Python and numpy have allocated for it at the worst moment: the same every time."""
    gc.collect()
    tracemalloc.start()
    try:
        score(folder, num_utterances)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_by_little_more_than_the_texts(tmp_path: Path) -> None:
    first, few, many = 10 * MIN_VIDEOS, BLOCK_SIZE, 2 * BLOCK_SIZE
    for num_utterances in (first, few, many):
        write_predictions(tmp_path / f"{num_utterances}.csv", made_up_predictions(num_utterances), {})
    score(tmp_path, first)  # libraries and word lists are loaded once, those of intervals among them
    grown = peak_bytes(tmp_path, many) - peak_bytes(tmp_path, few)
    assert grown / (many - few) < MAX_BYTES_PER_UTTERANCE
