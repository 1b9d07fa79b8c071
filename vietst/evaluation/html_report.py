"""Reports of one run, and of two runs beside each other, as HTML files that need nothing else to be read.

They are made from the files of an evaluation alone, so that they can be made again a year later without the
model. Only audio players, where asked for, refer to other files: to audio below the audio root, by links
that hold as long as report and audio keep their places to each other.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vietst.data.tables import atomic_writer
from vietst.errors import VietstError
from vietst.evaluation.alarms import alarm_lines
from vietst.evaluation.chart_style import png_of
from vietst.evaluation.charts import draw_learning_curve, draw_slices, draw_training_loss
from vietst.evaluation.extra_set_charts import draw_extra_sets, draw_interpolation
from vietst.evaluation.history import History, extra_set_names, run_histories
from vietst.evaluation.interpolation_curve import curve_of_run, curve_table
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.metrics_file import METRICS_SUFFIX, read_metrics
from vietst.evaluation.predictions_file import PREDICTIONS_SUFFIX, read_predictions, scored_predictions
from vietst.evaluation.report_tables import (
    CLASS_LABELS,
    KIND_LABELS,
    ReportTable,
    alarm_table,
    baseline_table,
    confusion_table,
    dev_score_table,
    difference_table,
    error_kind_table,
    fact_table,
    headline_table,
    slice_tables,
    word_class_table,
)
from vietst.evaluation.results_table import SCORE_LABELS, score_notes
from vietst.evaluation.score_counts import word_error_counts
from vietst.evaluation.shown_utterances import (
    ChosenUtterances,
    ShownUtterance,
    aligned_texts,
    audio_links,
    choose_utterances,
    recording_facts,
)
from vietst.evaluation.word_language import WordTag
from vietst.pages import filled
from vietst.text import normalize_for_scoring

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT_SUFFIX: Final = "_report.html"
COMPARISON_SUFFIX: Final = "_comparison.json"

_CURVE_TEXT: Final = "Scores over the share of the tuned model; the table below holds the same figures."

NUM_DIFFERENT: Final = 10
"""Utterances of a comparison on which either run is better."""


@dataclass(frozen=True)
class Picture:
    """A chart inside the page."""

    data_uri: str
    text: str
    """What stands there for those who do not see it."""


@dataclass(frozen=True)
class UtteranceGroup:
    title: str
    introduction: str
    utterances: list[ShownUtterance]


# --- one run ----------------------------------------------------------------------------------------------


def write_run_report(
    metrics_json: Path,
    histories: Sequence[History] = (),
    audio_root: Path | None = None,
    user_tags: Mapping[str, WordTag] | None = None,
) -> Path:
    """Write `<run>_report.html` beside the results of a run.

    Args:
        metrics_json: from `report.write_results`, its predictions file beside it.
        histories: of the run's training, for the learning curve.
        audio_root: what `audio_path` is relative to; None: no players.
        user_tags: those that the results were scored with.

    Raises:
        VietstError: a file that cannot be read.
    """
    metrics = read_metrics(metrics_json)
    predictions_csv = metrics_json.with_name(metrics["predictions_csv"])
    chosen = choose_utterances(lambda: scored_predictions(predictions_csv))
    report = metrics_json.with_name(f"{metrics['run_name']}{REPORT_SUFFIX}")
    code_switching, curve = metrics["code_switching"], curve_of_run(metrics_json)
    _write_page(
        report,
        "run_report.html",
        title=f"Evaluation of {metrics['run_name']}",
        metrics=metrics,
        headline=headline_table(metrics),
        beside=baseline_table(metrics) if metrics["baselines"] else None,
        notes=score_notes(metrics),
        language_tables=_language_tables(code_switching) if code_switching else [],
        confusion_tables=[
            confusion_table(pairs, language)
            for language, pairs in (code_switching["confusions"] if code_switching else {}).items()
            if pairs
        ],
        slice_tables=slice_tables(metrics["slices"]),
        slice_picture=_picture(
            draw_slices(metrics), "Scores by slice; the tables below hold the same figures."
        ),
        groups=_groups(chosen, report.parent, audio_root, user_tags),
        has_audio=audio_root is not None,
        curve_picture=_picture(draw_interpolation(curve), "The figures of the table below.")
        if curve
        else None,
        curve_table=curve_table(curve) if curve else None,
        learning_pictures=_learning_pictures(histories),
        dev_tables=[dev_score_table(history) for history in histories if history.has("eval_loss")],
        facts=fact_table(metrics),
    )
    return report


def _language_tables(code_switching: Mapping[str, Any]) -> list[ReportTable]:
    tables = [word_class_table(code_switching), error_kind_table(code_switching)]
    return [table for table in tables if table.rows]


def _groups(
    chosen: ChosenUtterances,
    report_dir: Path,
    audio_root: Path | None,
    user_tags: Mapping[str, WordTag] | None,
) -> list[UtteranceGroup]:
    link = audio_links(audio_root, report_dir)

    def shown(prediction: Prediction, scores: Mapping[str, float]) -> ShownUtterance:
        of_it = [f"{SCORE_LABELS[name]} {score:.2f}" for name, score in scores.items()]
        facts = [*recording_facts(prediction), *of_it]
        return ShownUtterance(
            prediction.id, facts, aligned_texts(prediction, user_tags), *link(prediction.audio_path)
        )

    by = {"wer": "highest WER", "chrf": "lowest chrF"}[chosen.ranked_by]
    return [
        UtteranceGroup(
            "The worst utterances",
            f"The {len(chosen.worst)} with the {by}." if chosen.worst else "Every utterance is right.",
            [shown(*utterance) for utterance in chosen.worst],
        ),
        UtteranceGroup(
            "Random utterances",
            f"{len(chosen.drawn)} of {chosen.num_utterances:,}, drawn with a fixed seed.",
            [shown(*utterance) for utterance in chosen.drawn],
        ),
    ]


def _learning_pictures(histories: Sequence[History]) -> list[Picture]:
    pictures = []
    if any(history.has(key) for history in histories for key in ("eval_wer", "eval_bleu")):
        text = "WER and BLEU on the dev split over optimizer steps; the table below holds the same figures."
        pictures.append(_picture(draw_learning_curve(histories), text))
    if watched := [history for history in histories if extra_set_names(history.entries)]:
        text = "WER on the extra sets over optimizer steps; the table below holds the same figures."
        pictures.append(_picture(draw_extra_sets(watched), text))
    if any(history.has("loss") for history in histories):
        pictures.append(
            _picture(draw_training_loss(histories), "Training and dev loss over optimizer steps.")
        )
    return pictures


def _picture(figure: "Figure", text: str) -> Picture:
    return Picture("data:image/png;base64," + base64.b64encode(png_of(figure)).decode("ascii"), text)


# --- two runs ---------------------------------------------------------------------------------------------


class OldComparisonError(VietstError):
    """The predictions that were compared are others by now."""


def write_comparison_report(
    comparison_json: Path,
    predictions_a: Path,
    predictions_b: Path,
    audio_root: Path | None = None,
    user_tags: Mapping[str, WordTag] | None = None,
) -> Path:
    """Write `<A>_vs_<B>_report.html` beside a comparison that `compare.write_comparison` wrote.

    Args:
        predictions_a, predictions_b: the files that were compared.
        audio_root: what `audio_path` in either of them is relative to; None: no players.
        user_tags: those that the runs were compared with.

    Raises:
        OldComparisonError: the files no longer hold the utterances that were compared.
        VietstError: a file that cannot be read.
    """
    comparison = read_metrics(comparison_json)
    name = comparison_json.name.removesuffix(COMPARISON_SUFFIX)
    report = comparison_json.with_name(f"{name}{REPORT_SUFFIX}")
    alarms = comparison.get("alarms")  # comparisons of earlier versions have none
    of_b = {prediction.id: prediction for prediction in read_predictions(predictions_b)}
    pairs = [(a, of_b[a.id]) for a in read_predictions(predictions_a) if a.id in of_b]
    if len(pairs) != comparison["num_utterances"]:
        raise OldComparisonError(
            where=str(comparison_json),
            rule="both predictions files hold the utterances that were compared",
            found=f"{len(pairs)} utterances in both, where {comparison['num_utterances']} were compared",
            do="compare the runs again (scripts/compare_runs.py)",
        )
    _write_page(
        report,
        "comparison_report.html",
        title=f"{comparison['run_a']} against {comparison['run_b']}",
        comparison=comparison,
        differences=difference_table(comparison),
        alarms=alarm_table(alarms) if alarms else None,
        alarm_examples=_alarm_examples(comparison, alarms) if alarms else [],
        groups=_different_groups(pairs, comparison, audio_links(audio_root, report.parent), user_tags),
        has_audio=audio_root is not None,
    )
    return report


def _alarm_examples(
    comparison: Mapping[str, Any], alarms: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, list[str]]]:
    """Every run that raised alarms, and a line for each of them with an example."""
    runs = ((comparison[f"run_{run}"], alarm_lines(alarms[run])) for run in ("a", "b"))
    return [(name, lines) for name, lines in runs if lines]


def _different_groups(
    pairs: Sequence[tuple[Prediction, Prediction]],
    comparison: Mapping[str, Any],
    link: Callable[[str], tuple[str, str]],
    user_tags: Mapping[str, WordTag] | None,
) -> list[UtteranceGroup]:
    """Where either run has fewer word errors: in transcripts, in translations if one did not transcribe."""
    task = "transcript"
    if any(p.transcript_hypothesis is None for pair in pairs for p in pair):
        task = "translation"
    errors_a, errors_b = (_word_errors([pair[side] for pair in pairs], task) for side in (0, 1))
    gains = [float(b - a) for a, b in zip(errors_a, errors_b, strict=True)]

    def better(run: str, sign: int) -> UtteranceGroup:
        ranked = sorted(range(len(pairs)), key=lambda index: (-sign * gains[index], pairs[index][0].id))
        chosen = [index for index in ranked if sign * gains[index] > 0][:NUM_DIFFERENT]
        total = sum(sign * gain > 0 for gain in gains)
        return UtteranceGroup(
            f"Where {run} is better",
            f"{run} has fewer word errors in {total:,} {task}s of {len(pairs):,}"
            + (f"; the {len(chosen)} with the largest difference:" if chosen else "."),
            [_shown_pair(pairs[index], comparison, link, user_tags) for index in chosen],
        )

    return [better(comparison["run_b"], -1), better(comparison["run_a"], 1)]


def _word_errors(predictions: Sequence[Prediction], task: str) -> list[float]:
    references = [normalize_for_scoring(getattr(p, task)) for p in predictions]
    hypotheses = [normalize_for_scoring(getattr(p, f"{task}_hypothesis") or "") for p in predictions]
    return [float(errors) for errors in word_error_counts(references, hypotheses).counts[:, 0]]


def _shown_pair(
    pair: tuple[Prediction, Prediction],
    comparison: Mapping[str, Any],
    link: Callable[[str], tuple[str, str]],
    user_tags: Mapping[str, WordTag] | None,
) -> ShownUtterance:
    texts = [
        text
        for prediction, run in zip(pair, (comparison["run_a"], comparison["run_b"]), strict=True)
        for text in aligned_texts(prediction, user_tags, run)
    ]
    texts.sort(key=lambda text: text.title.startswith("Translation"))  # stable: A before B in either task
    # Predictions from elsewhere may know nothing of the recording.
    recording = next((prediction for prediction in pair if prediction.audio_path), pair[0])
    return ShownUtterance(recording.id, recording_facts(recording), texts, *link(recording.audio_path))


# --- all, again -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WrittenReports:
    """What `write_reports` wrote, and for each report it could not write, why."""

    written: list[Path]
    not_written: list[str]


def write_reports(
    runs_dir: Path,
    results_dir: Path,
    audio_root: Path | None = None,
    user_tags: Mapping[str, WordTag] | None = None,
) -> WrittenReports:
    """Write the reports of all runs and comparisons in `results_dir` again, from their files.

    Learning curves are those of the run folder in `runs_dir` that was evaluated. Comparisons with predictions
    from elsewhere keep the report that they have.

    Raises:
        VietstError: a file that cannot be read.
    """
    result = WrittenReports([], [])
    for metrics_json in sorted(results_dir.glob(f"*{METRICS_SUFFIX}")):
        metrics = read_metrics(metrics_json)
        name = metrics_json.name.removesuffix(METRICS_SUFFIX)
        if "slices" not in metrics:
            result.not_written.append(f"{name}{REPORT_SUFFIX}: the results are of a version without slices")
            continue
        if not metrics_json.with_name(metrics["predictions_csv"]).is_file():
            result.not_written.append(f"{name}{REPORT_SUFFIX}: there is no {metrics['predictions_csv']}")
            continue
        run_folder = Path(metrics["facts"].get("model", metrics["run_name"])).name
        histories = run_histories(runs_dir / run_folder)
        result.written.append(write_run_report(metrics_json, histories, audio_root, user_tags))
    for comparison_json in sorted(results_dir.glob(f"*{COMPARISON_SUFFIX}")):
        comparison = read_metrics(comparison_json)
        a, b = (results_dir / f"{comparison[run]}{PREDICTIONS_SUFFIX}" for run in ("run_a", "run_b"))
        name = f"{comparison_json.name.removesuffix(COMPARISON_SUFFIX)}{REPORT_SUFFIX}"
        if not (a.is_file() and b.is_file()):
            result.not_written.append(f"{name}: its predictions do not lie in {results_dir}")
            continue
        try:
            result.written.append(write_comparison_report(comparison_json, a, b, audio_root, user_tags))
        except OldComparisonError as error:
            result.not_written.append(f"{name}: {error.found}; {error.do}")
    return result


# --- pages ------------------------------------------------------------------------------------------------


def _write_page(path: Path, template: str, **content: Any) -> None:
    page = filled(template, class_labels=CLASS_LABELS, kind_labels=KIND_LABELS, **content)
    with atomic_writer(path) as file:
        file.write(page)
