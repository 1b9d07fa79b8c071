"""One evaluation from predictions, of our models or anybody's, to scores, files and the printed table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vietst.data.splits import read_split_file
from vietst.data.tables import file_digest
from vietst.errors import VietstError
from vietst.evaluation.history import History
from vietst.evaluation.html_report import write_run_report
from vietst.evaluation.metrics import Prediction, baselines
from vietst.evaluation.report import (
    PREDICTIONS_SUFFIX,
    Timing,
    format_results_table,
    read_metrics,
    read_predictions,
    write_results,
)
from vietst.evaluation.word_language import WordTag, read_word_tags
from vietst.runtime import environment_record

BASELINE_SEED = 1


def evaluate_predictions_file(
    *,
    predictions: Path,
    output: Path,
    train_csv: Path | None,
    run_name: str | None,
    audio_root: Path,
    word_tags: Path | None = None,
    audio: bool = False,
    ter: bool = False,
) -> dict[str, Any]:
    """Score a predictions file (`report.read_predictions`), write the results and print them.

    Args:
        train_csv: for the random-sentence baseline; None: without it.
        run_name: None: the file's name.
        audio_root: what `audio_path` in the file is relative to, where it has that column.
        word_tags: a word list for `word_language.read_word_tags`.
        audio: whether the report gets audio players.
        ter: score TER, too.

    Returns:
        The content of `<run>_metrics.json`.

    Raises:
        VietstError: a file that cannot be used, or that the results would overwrite.
    """
    rows = read_predictions(predictions)
    run_name = run_name or predictions.name.removesuffix(PREDICTIONS_SUFFIX).removesuffix(".csv")
    written = output / f"{run_name}{PREDICTIONS_SUFFIX}"
    if not rows or written.resolve() == predictions.resolve():
        raise VietstError(
            where=str(predictions),
            rule="a predictions file with utterances, that is no file of these results themselves",
            found=f"the results would be written to {written}" if rows else "no utterances",
            do="choose another --run_name or --output" if rows else "name the file that holds them",
        )
    facts = {
        "predictions": predictions.as_posix(),
        "predictions_digest": file_digest(predictions),
        "word_tags": word_tags.as_posix() if word_tags else None,
        "environment": environment_record(),
    }
    user_tags = read_word_tags(word_tags) if word_tags else {}
    return score_and_write(
        rows,
        None,
        output,
        run_name,
        facts,
        train_csv,
        user_tags,
        [],
        audio_root if audio else None,
        with_ter=ter,
    )


def score_and_write(
    predictions: Sequence[Prediction],
    timing: Timing | None,
    output: Path,
    run_name: str,
    facts: Mapping[str, Any],
    train_csv: Path | None,
    user_tags: Mapping[str, WordTag],
    histories: Sequence[History],
    players_root: Path | None,
    *,
    with_ter: bool,
) -> dict[str, Any]:
    """Score predictions beside the baselines, write results and report, print and return the metrics.

    Args:
        train_csv: for the random-sentence baseline; None: without it.
        histories: of the model's training, for the report.
        players_root: the audio root of the report's players; None: without players.
    """
    training_rows = read_split_file(train_csv) if train_csv is not None else []
    baseline_scores = baselines(
        predictions,
        [str(row["transcript"]) for row in training_rows],
        [str(row["translation"]) for row in training_rows],
        BASELINE_SEED,
    )
    output.mkdir(parents=True, exist_ok=True)
    files = write_results(
        output, run_name, predictions, timing, facts, baseline_scores, user_tags, with_ter=with_ter
    )
    report = write_run_report(files[0], histories, players_root, user_tags)
    metrics = read_metrics(files[0])
    print(format_results_table(metrics, [*files, report]))
    return metrics
