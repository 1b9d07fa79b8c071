"""Every reference and hypothesis of a run as a CSV file, with the scores of each: `<run>_predictions.csv`.

Written by an evaluation, read back without a model, and read where others wrote it.
"""

import csv
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, cast, get_args

import numpy as np

from vietst.data.records import format_record
from vietst.data.sources import SOURCE_COLUMN
from vietst.data.tables import atomic_writer
from vietst.data.verified import VERIFIED_COLUMN, format_verified
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.metrics_file import path_of_run, unreadable
from vietst.text_style import AS_IS, TextStyle

PREDICTIONS_SUFFIX: Final = "_predictions.csv"

_REQUIRED_COLUMNS: Final = ("id", "video_id", "duration_s", "transcript", "translation")
_HYPOTHESIS_COLUMNS: Final = ("transcript_hypothesis", "translation_hypothesis")
_KNOWN_COLUMNS: Final = (
    "speaker_id", "audio_path", "level_dbfs", VERIFIED_COLUMN, SOURCE_COLUMN, "text_style",
)  # fmt: skip
"""Absent where nothing is known of any utterance, or the style is that of the references."""
_SCORE_COLUMNS: Final = ("wer", "cer", "chrf", "comet")


# --- writing ----------------------------------------------------------------------------------------------


def write_predictions(
    path: Path, predictions: Sequence[Prediction], scores: Mapping[str, np.ndarray]
) -> None:
    """Write a predictions file, atomically.

    Texts stand in the file as they are. Hypothesis columns of a task that was not run are absent.

    Args:
        scores: from `metrics.utterance_scores`.

    Raises:
        ValueError: a task was run on some utterances only, so that a cell could not tell.
    """
    was_run = [name for name in _HYPOTHESIS_COLUMNS if any(getattr(p, name) is not None for p in predictions)]
    _check_nothing_gets_lost(predictions, was_run)
    says_nothing = ("", None, AS_IS)
    known = [
        name for name in _KNOWN_COLUMNS if any(getattr(p, name) not in says_nothing for p in predictions)
    ]
    scored = [name for name in _SCORE_COLUMNS if name != "comet" or _has_scores(scores.get(name))]
    columns = [*_REQUIRED_COLUMNS, *was_run, *scored, *known]
    with atomic_writer(path) as file:
        file.write("\ufeff")  # without this mark Excel takes UTF-8 for the local 8-bit encoding
        file.write(format_record(columns, ","))
        for index, prediction in enumerate(predictions):
            shown = {name: _as_score(scores[name][index]) if name in scores else None for name in scored}
            shown["duration_s"] = repr(float(prediction.duration_s))
            if prediction.level_dbfs is not None:
                shown["level_dbfs"] = repr(float(prediction.level_dbfs))
            cells = (shown[name] if name in shown else getattr(prediction, name) for name in columns)
            file.write(format_record([_as_cell(cell) for cell in cells], ","))


def _has_scores(of_each: np.ndarray | None) -> bool:
    return of_each is not None and not np.isnan(of_each).all()


def _as_score(score: float) -> str | None:
    return None if math.isnan(score) else f"{score:.2f}"


def _check_nothing_gets_lost(predictions: Sequence[Prediction], was_run: Sequence[str]) -> None:
    """A cell cannot tell "not run" from "nothing written", except where there is no reference either."""
    for name in was_run:
        reference = name.removesuffix("_hypothesis")
        lost = [p.id for p in predictions if getattr(p, name) is None and getattr(p, reference)]
        if lost:
            raise ValueError(
                f"{name} is missing for {len(lost)} utterances and there for others, e.g. {lost[0]}"
            )


def _as_cell(value: str | None) -> str:
    # An untrained byte-level model can write NUL, which ends the text in many programs.
    return "" if value is None else value.replace("\0", "\ufffd")


# --- reading ----------------------------------------------------------------------------------------------


def predictions_path(run: str, results_dir: Path) -> Path:
    """The predictions file that is meant by a run's name in `results_dir`, or by a path.

    Raises:
        VietstError: neither is there.
    """
    return path_of_run(run, results_dir, PREDICTIONS_SUFFIX)


def read_predictions(path: Path) -> list[Prediction]:
    """Read a predictions file, ours or anyone's with at least the columns id, video_id, duration_s,
    transcript, translation and one of transcript_hypothesis, translation_hypothesis.

    A task without a hypothesis column was not run. A hypothesis that is empty where the reference is empty
    too counts as not run.

    Raises:
        VietstError: no such file, not UTF-8, a column missing, or a row that cannot be read.
    """
    return [_as_prediction(where, row) for where, row in _rows(path)]


def scored_predictions(path: Path) -> Iterator[tuple[Prediction, dict[str, float]]]:
    """The rows of a file that `write_predictions` wrote, one at a time, with the scores of each.

    Of `wer`, `cer`, `chrf` and `comet` those that a row does not have are absent.

    Raises:
        VietstError: as `read_predictions`.
    """
    for where, row in _rows(path):
        yield (
            _as_prediction(where, row),
            {name: float(cell) for name in _SCORE_COLUMNS if (cell := row.get(name))},
        )


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row stands, and its cells by column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or [])
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise unreadable(where, "every row has as many fields as the header", "more or fewer")
                yield where, row
    except OSError as error:
        raise unreadable(str(path), "the file can be read", error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise unreadable(str(path), "the text is UTF-8", error.reason) from None
    except csv.Error as error:
        raise unreadable(str(path), "fields are separated and quoted as in RFC 4180", str(error)) from None


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in _REQUIRED_COLUMNS if name not in columns]
    if not any(name in columns for name in _HYPOTHESIS_COLUMNS):
        missing.append(" or ".join(_HYPOTHESIS_COLUMNS))
    if missing:
        rule = f"a predictions file has the columns {', '.join(_REQUIRED_COLUMNS)} and a hypothesis"
        raise unreadable(str(path), rule, f"no {', no '.join(missing)}; there are: {', '.join(columns)}")


def _as_prediction(where: str, cells: Mapping[str, str]) -> Prediction:
    duration_s = _number(where, "duration_s", "a number of seconds", cells)
    if not 0 <= duration_s < math.inf:  # nor NaN
        raise unreadable(where, "duration_s is a number of seconds, 0 or more", repr(cells["duration_s"]))
    level_dbfs = (
        _number(where, "level_dbfs", "a number of decibels", cells) if cells.get("level_dbfs") else None
    )
    hypotheses = {name: cells.get(name) for name in _HYPOTHESIS_COLUMNS}
    for name, hypothesis in hypotheses.items():
        if not hypothesis and not cells[name.removesuffix("_hypothesis")]:
            hypotheses[name] = None
    return Prediction(
        id=cells["id"],
        video_id=sys.intern(cells["video_id"]),  # kept once, not once for each row
        duration_s=duration_s,
        transcript=cells["transcript"],
        translation=cells["translation"],
        **hypotheses,
        speaker_id=sys.intern(cells.get("speaker_id", "")),
        data_source=sys.intern(cells.get(SOURCE_COLUMN, "")),
        audio_path=cells.get("audio_path", ""),
        level_dbfs=level_dbfs,
        verified=format_verified(cells.get(VERIFIED_COLUMN, "")),
        text_style=_text_style(where, cells.get("text_style") or AS_IS),
    )


def _text_style(where: str, cell: str) -> TextStyle:
    for style in get_args(TextStyle):
        if cell == style:
            return cast(TextStyle, style)
    raise unreadable(where, f"text_style is one of {', '.join(get_args(TextStyle))}", repr(cell))


def _number(where: str, column: str, rule: str, cells: Mapping[str, str]) -> float:
    try:
        return float(cells[column])
    except ValueError:
        raise unreadable(where, f"{column} is {rule}", repr(cells[column])) from None
