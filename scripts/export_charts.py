"""Draw the charts of all runs from the files that training and evaluation wrote.

    python scripts/export_charts.py [--runs_dir outputs] [--results_dir outputs/results]
        [--output_dir outputs/charts]

Writes training_loss.png, learning_curve.png, wer_comparison.png and bleu_comparison.png, as far as there are
data for them. No model is loaded. By default all folders are those of `paths.output_dir`.
"""

import argparse
from pathlib import Path

from vietst.runtime import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs_dir", type=Path, help="holds run folders (default: the folder that holds RESULTS_DIR)"
    )
    parser.add_argument("--results_dir", type=Path, help="from run_evaluation.py (default: RUNS_DIR/results)")
    parser.add_argument("--output_dir", type=Path, help="for the PNG files (default: RUNS_DIR/charts)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from vietst.config import load_config
    from vietst.evaluation.charts import export_charts

    runs_dir = arguments.runs_dir
    if runs_dir is None:
        results_dir = arguments.results_dir
        runs_dir = results_dir.parent if results_dir else load_config("base").config.paths.output_dir
    charts = export_charts(
        runs_dir, arguments.results_dir or runs_dir / "results", arguments.output_dir or runs_dir / "charts"
    )
    for reason in charts.not_drawn:
        print(f"not drawn: {reason}")
    print("written:", *charts.written, sep="\n  ")


if __name__ == "__main__":
    run_script(main)
