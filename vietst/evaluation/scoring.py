"""From predictions to all that an evaluation leaves on the disk: scores, every text, and a report."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vietst.config_schema import ContextChoice
from vietst.evaluation.history import History
from vietst.evaluation.html_report import write_run_report
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.metrics_file import read_metrics
from vietst.evaluation.report import Timing, write_results
from vietst.evaluation.score_counts import ScoreCounts
from vietst.evaluation.word_language import WordTag, read_word_tags


@dataclass(frozen=True)
class SplitOptions:
    """Which split a model is run on, and how."""

    test_csv: Path
    audio_root: Path
    batch_size: int
    num_beams: int | None
    """None: those that the model's record names; greedy without one."""
    num_workers: int
    context: ContextChoice | None = None
    """Whispers hear clips in their own window (`full`), or each batch in the shortest that fits (`bucketed`).
    None: as the model was trained."""


@dataclass(frozen=True)
class ScoringOptions:
    """How predictions are scored and shown, wherever they come from."""

    output: Path
    """Folder of the results."""

    word_tags: Path | None = None
    """A word list for `word_language.read_word_tags`."""

    players_root: Path | None = None
    """Audio root of the report's players; None: without players."""

    with_ter: bool = False

    @functools.cached_property
    def user_tags(self) -> Mapping[str, WordTag]:
        """The words of the list.

        Raises:
            VietstError: a list that cannot be used.
        """
        return read_word_tags(self.word_tags) if self.word_tags else {}


@dataclass(frozen=True)
class ScoredRun:
    """What is scored under one name."""

    name: str
    predictions: Sequence[Prediction]
    facts: Mapping[str, Any]
    """About model, data and decoding; plain JSON data."""

    timing: Timing | None = None
    histories: Sequence[History] = ()
    """Of the model's training, for the report."""

    why_no_translation: str | None = None
    """A sentence, where the model was not asked to translate though it might have been."""

    more_scores: Mapping[str, ScoreCounts] = field(default_factory=dict)
    """Computed elsewhere, by name."""

    more_signatures: Mapping[str, str] = field(default_factory=dict)
    """What exactly they are."""


def write_run(
    run: ScoredRun, options: ScoringOptions, baselines: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[dict[str, Any], list[Path]]:
    """Score a run and write its results and report.

    Args:
        baselines: what stands beside it in its table, by name.

    Returns:
        The content of `<run>_metrics.json`, and the files that were written.
    """
    options.output.mkdir(parents=True, exist_ok=True)
    files = write_results(
        options.output,
        run.name,
        run.predictions,
        run.timing,
        {**run.facts, "word_tags": options.word_tags.as_posix() if options.word_tags else None},
        baselines,
        options.user_tags,
        with_ter=options.with_ter,
        more_scores=run.more_scores,
        more_signatures=run.more_signatures,
        why_no_translation=run.why_no_translation,
    )
    report = write_run_report(files[0], run.histories, options.players_root, options.user_tags)
    return read_metrics(files[0]), [*files, report]
