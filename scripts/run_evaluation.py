"""Score a model on a test split, or predictions that are there: WER, CER, BLEU, chrF and all the rest.

    python scripts/run_evaluation.py --model_dir outputs/dev_whisper --model_type whisper \\
        --test_csv data/splits/test.csv --output outputs/results
    python scripts/run_evaluation.py --predictions elsewhere/predictions.csv --run_name theirs

With a model, audio is read from the files that the split names. Predictions are anybody's CSV with the
columns id, video_id, duration_s, transcript, translation and transcript_hypothesis or translation_hypothesis;
they get the same scorer and baselines. Writes <run>_metrics.json, <run>_predictions.csv and
<run>_report.html, a page that opens from disk without a network.
"""

import argparse
from pathlib import Path
from typing import Any

from vietst.runtime import quiet_libraries, run_script

OF_MODEL: dict[str, Any] = {
    "model_type": "whisper",
    "test_csv": Path("data/splits/test.csv"),
    "task": None,
    "batch_size": 16,
    "num_beams": None,
    "num_workers": 0,
}
"""Options that say how a model is run, and their defaults."""


def parse_arguments() -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    scored = parser.add_mutually_exclusive_group(required=True)
    scored.add_argument("--model_dir", metavar="DIR|HUB_ID", help="run folder, model folder or Hub id")
    scored.add_argument("--predictions", type=Path, metavar="CSV", help="score these, without a model")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/results"),
        help="folder for the results (default: %(default)s)",
    )
    parser.add_argument("--run_name", help="name of the result files (default: the model's or the file's)")
    parser.add_argument(
        "--train_csv",
        type=Path,
        help="training split, for the random-sentence baseline (default: beside --test_csv)",
    )
    parser.add_argument(
        "--word_tags",
        type=Path,
        metavar="TSV",
        help="your own words for the rates by language: word, tab, vi|en|name|number|other on each line",
    )
    parser.add_argument(
        "--audio_root",
        type=Path,
        default=Path(),
        help="what audio_path is relative to (default: current folder)",
    )
    parser.add_argument(
        "--audio",
        action="store_true",
        help="audio players in the report: links to files below AUDIO_ROOT, so keep both in place",
    )
    parser.add_argument("--ter", action="store_true", help="score TER, too; slow")
    _add_model_options(parser)
    given = vars(parser.parse_args())
    if given["predictions"] is None:
        del given["predictions"]
        return OF_MODEL | given
    del given["model_dir"]
    if refused := [f"--{name}" for name in OF_MODEL if name in given]:
        parser.error(f"--predictions runs no model, so {', '.join(refused)} cannot be given with it")
    return given


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    # Without defaults here, what was given can be told from what was not.
    options = parser.add_argument_group("with --model_dir only", argument_default=argparse.SUPPRESS)
    options.add_argument(
        "--model_type",
        choices=["whisper", "e2e"],
        help=f"architecture (default: {OF_MODEL['model_type']})",
    )
    options.add_argument("--test_csv", type=Path, help=f"split file (default: {OF_MODEL['test_csv']})")
    options.add_argument(
        "--task", choices=["transcribe", "translate", "both"], help="default: what the run trained"
    )
    options.add_argument(
        "--batch_size", type=int, help=f"utterances at once (default: {OF_MODEL['batch_size']})"
    )
    options.add_argument(
        "--num_beams", type=int, help="1 is greedy (default: the run's evaluation.test_num_beams)"
    )
    options.add_argument(
        "--num_workers",
        type=int,
        help=f"processes that read audio ahead (default: {OF_MODEL['num_workers']})",
    )


def main() -> None:
    arguments = parse_arguments()
    quiet_libraries()
    if "predictions" in arguments:
        from vietst.evaluation.evaluate_predictions import evaluate_predictions_file

        evaluate_predictions_file(**arguments)
    else:
        from vietst.evaluation.evaluate_model import evaluate_model

        evaluate_model(**arguments)


if __name__ == "__main__":
    run_script(main)
