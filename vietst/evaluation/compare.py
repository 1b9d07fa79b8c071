"""Whether one run is better than another, from their predictions: paired by utterance, tested by video."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vietst.data.tables import atomic_writer
from vietst.errors import VietstError
from vietst.evaluation.alarms import alarm_lines, alarms_record, raise_alarms
from vietst.evaluation.code_switching import count_errors_of, language_score_counts
from vietst.evaluation.metrics import WER_NORMALIZERS, Prediction, count_scores, written_in
from vietst.evaluation.predictions_file import PREDICTIONS_SUFFIX, read_predictions
from vietst.evaluation.results_table import SCORE_LABELS, common_style_note, normalizers_note
from vietst.evaluation.significance import MIN_VIDEOS, Difference, paired_difference
from vietst.evaluation.word_language import WordTag
from vietst.text_style import AS_IS, TextStyle


@dataclass(frozen=True)
class Comparison:
    """Two runs on the utterances that both were run on."""

    run_a: str
    run_b: str
    num_utterances: int
    num_videos: int
    num_left_out: int
    """Utterances that only one of the two files has."""
    common_style: TextStyle | None
    """The plainer one in which both are compared, where one model was taught to write it; None: both write
    alike."""
    differences: tuple[Difference, ...]
    alarms_a: dict[str, Any]
    alarms_b: dict[str, Any]
    """`alarms.alarms_record` of either run, on the same utterances."""


def compare_runs(path_a: Path, path_b: Path, user_tags: Mapping[str, WordTag] | None = None) -> Comparison:
    """Compare two predictions files of the same test set.

    Args:
        user_tags: from `word_language.read_word_tags`, for the rates by language.

    Raises:
        VietstError: a file that cannot be read, twice the same, references that differ, or nothing in common.
    """
    if path_a.resolve() == path_b.resolve():
        raise VietstError(
            where="the runs to compare",
            rule="two different ones",
            found=f"{path_a}, twice",
            do="name another run",
        )
    predictions_a = _by_id(path_a)
    predictions_b = _by_id(path_b)
    common = [utterance for utterance in predictions_a if utterance in predictions_b]
    pairs = [(predictions_a[utterance], predictions_b[utterance]) for utterance in common]
    _require_same_references(path_a, path_b, pairs)
    common_style = _common_style(pairs)
    of_a, of_b = (
        [written_in(p, common_style) if common_style else p for p in of_run]
        for of_run in ([a for a, _ in pairs], [b for _, b in pairs])
    )
    differences = (*_differences(of_a, of_b), *_differences_by_language(of_a, of_b, user_tags))
    if not differences:
        raise VietstError(
            where=f"{path_a} and {path_b}",
            rule="a task that both runs were asked for, on utterances that both have",
            found=f"{len(pairs)} utterances in common, and no task",
            do="evaluate both on the same test split",
        )
    return Comparison(
        run_a=_run_name(path_a),
        run_b=_run_name(path_b),
        num_utterances=len(pairs),
        num_videos=len({a.video_id for a in of_a}),
        num_left_out=len(predictions_a) + len(predictions_b) - 2 * len(pairs),
        common_style=common_style,
        differences=differences,
        alarms_a=alarms_record(raise_alarms(of_a)),
        alarms_b=alarms_record(raise_alarms(of_b)),
    )


def _by_id(path: Path) -> dict[str, Prediction]:
    predictions = read_predictions(path)
    by_id = {prediction.id: prediction for prediction in predictions}
    if len(by_id) < len(predictions):
        raise VietstError(
            where=str(path),
            rule="every utterance has an id of its own",
            found=f"{len(predictions)} rows with {len(by_id)} different ids",
            do="make the ids unique; utterances of the two files are paired by them",
        )
    return by_id


def _common_style(pairs: Sequence[tuple[Prediction, Prediction]]) -> TextStyle | None:
    styles: set[TextStyle] = {p.text_style for pair in pairs for p in pair}
    return next(iter(styles - {AS_IS})) if len(styles) > 1 else None


def _require_same_references(
    path_a: Path, path_b: Path, pairs: Sequence[tuple[Prediction, Prediction]]
) -> None:
    for a, b in pairs:
        for column in ("video_id", "transcript", "translation"):
            in_a, in_b = getattr(a, column), getattr(b, column)
            if in_a != in_b:
                raise VietstError(
                    where=f"utterance {a.id} in {path_a} and {path_b}",
                    rule=f"both were scored on the same {column}",
                    found=f"{in_a!r} and {in_b!r}",
                    do="evaluate both runs on the same test split",
                )


def _differences(of_a: Sequence[Prediction], of_b: Sequence[Prediction]) -> tuple[Difference, ...]:
    """Each score on the utterances whose task both runs were asked for."""
    counts_a, counts_b = count_scores(of_a), count_scores(of_b)
    differences = []
    for name in SCORE_LABELS:
        if name in counts_a and name in counts_b:
            task = "transcript" if name in ("cer", *WER_NORMALIZERS) else "translation"
            hypothesis = f"{task}_hypothesis"
            both = [
                index
                for index, (a, b) in enumerate(zip(of_a, of_b, strict=True))
                if getattr(a, hypothesis) is not None and getattr(b, hypothesis) is not None
            ]
            videos = [of_a[index].video_id for index in both]
            if both:
                differences.append(
                    paired_difference(counts_a[name].select(both), counts_b[name].select(both), videos)
                )
    return tuple(differences)


def _differences_by_language(
    of_a: Sequence[Prediction], of_b: Sequence[Prediction], user_tags: Mapping[str, WordTag] | None
) -> list[Difference]:
    """The rates of `language_score_counts`, on the utterances that both runs transcribed."""
    both = [
        (a, b)
        for a, b in zip(of_a, of_b, strict=True)
        if a.transcript_hypothesis is not None and b.transcript_hypothesis is not None
    ]
    if not both:
        return []
    counts_a, counts_b = (
        language_score_counts(count_errors_of(predictions, user_tags))
        for predictions in zip(*both, strict=True)
    )
    videos = [a.video_id for a, _ in both]
    return [paired_difference(counts_a[name], counts_b[name], videos) for name in counts_a]


def _run_name(path: Path) -> str:
    return path.name.removesuffix(PREDICTIONS_SUFFIX).removesuffix(".csv")


def as_record(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain JSON data."""
    return {
        "run_a": comparison.run_a,
        "run_b": comparison.run_b,
        "num_utterances": comparison.num_utterances,
        "num_videos": comparison.num_videos,
        "num_left_out": comparison.num_left_out,
        "common_style": comparison.common_style,
        "alarms": {"a": comparison.alarms_a, "b": comparison.alarms_b},
        "wer_normalizers": dict(WER_NORMALIZERS),
        "scores": {
            difference.name: {
                "a": difference.score_a,
                "b": difference.score_b,
                "difference": difference.difference,
                "interval": difference.interval.as_record(),
                "p_value": difference.p_value,
                "verdict": difference.verdict,
            }
            for difference in comparison.differences
        },
    }


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write `as_record` as a JSON file, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path) as file:
        file.write(json.dumps(as_record(comparison), ensure_ascii=False, indent=2) + "\n")


def format_comparison(comparison: Comparison) -> str:
    """What the comparison says, as a table for people."""
    lines = [
        f"A: {comparison.run_a}",
        f"B: {comparison.run_b}",
        f"{comparison.num_utterances:,} utterances, {comparison.num_videos:,} videos in common"
        + (f"; {comparison.num_left_out:,} in one file only, left out" if comparison.num_left_out else ""),
        "",
    ]
    rows = [["", "A", "B", "B − A", "95 % interval", "p", ""]]
    for difference in comparison.differences:
        interval = difference.interval
        rows.append(
            [
                SCORE_LABELS[difference.name],
                f"{difference.score_a:.2f}",
                f"{difference.score_b:.2f}",
                f"{difference.difference:+.2f}",
                "–" if interval.low is None else f"{interval.low:+.2f} … {interval.high:+.2f}",
                "–" if difference.p_value is None else f"{difference.p_value:.4f}",
                "–" if difference.p_value is None else difference.verdict,
            ]
        )
    widths = np.max([[len(cell) for cell in row] for row in rows], axis=0)
    lines += ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    if any(difference.name in WER_NORMALIZERS for difference in comparison.differences):
        lines += ["", normalizers_note(WER_NORMALIZERS)]
    if comparison.common_style:
        lines += ["", common_style_note(comparison.common_style)]
    if comparison.num_videos < MIN_VIDEOS:
        lines += ["", str(comparison.differences[0].interval) + "; nothing can be said about chance"]
    for name, alarms in (("A", comparison.alarms_a), ("B", comparison.alarms_b)):
        if raised := alarm_lines(alarms):
            lines += ["", *(f"{name}: {line}" for line in raised)]
    return "\n".join(lines)
