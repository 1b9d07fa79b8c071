"""Score a trained model on a test split: transcripts (WER, CER) and translations (BLEU, chrF).

    python scripts/run_evaluation.py --model_dir outputs/dev_whisper --model_type whisper \\
        --test_csv data/splits/test.csv --output outputs/results

Audio is read from the files that the split names. Writes <run>_metrics.json and <run>_predictions.csv.
"""

import argparse
from pathlib import Path

from vietst.runtime import quiet_libraries, run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model_dir", required=True, metavar="DIR|HUB_ID", help="run folder, model folder or Hub id"
    )
    parser.add_argument(
        "--model_type",
        default="whisper",
        choices=["whisper", "e2e"],
        help="architecture (default: %(default)s)",
    )
    parser.add_argument(
        "--test_csv",
        type=Path,
        default=Path("data/splits/test.csv"),
        help="split file (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/results"),
        help="folder for the results (default: %(default)s)",
    )
    parser.add_argument(
        "--audio_root",
        type=Path,
        default=Path(),
        help="what audio_path is relative to (default: current folder)",
    )
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
    parser.add_argument("--run_name", help="name of the result files (default: the model folder's name)")
    parser.add_argument(
        "--task", choices=["transcribe", "translate", "both"], help="default: what the run trained"
    )
    parser.add_argument(
        "--batch_size", type=int, default=16, help="utterances at once (default: %(default)s)"
    )
    parser.add_argument(
        "--num_beams", type=int, help="1 is greedy (default: the run's evaluation.test_num_beams)"
    )
    parser.add_argument(
        "--num_workers", type=int, default=0, help="processes that read audio ahead (default: %(default)s)"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    quiet_libraries()
    from vietst.evaluation.evaluate_model import evaluate_model

    evaluate_model(**vars(arguments))


if __name__ == "__main__":
    run_script(main)
