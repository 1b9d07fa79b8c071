"""Draw the charts and write the HTML reports of all runs from the files that training and evaluation wrote.

    python scripts/export_charts.py [--runs_dir outputs] [--results_dir outputs/results]
        [--output_dir outputs/charts] [--audio [--audio_root .]]

Writes training_loss.png, learning_curve.png, extra_sets.png, wer_comparison.png, bleu_comparison.png,
slices_<run>.png and interpolation_<run>.png, as far as there are data for them, and <run>_report.html and
<A>_vs_<B>_report.html beside the results. No model is loaded. By default all folders are those
of `paths.output_dir`.
"""

import argparse
from pathlib import Path

from vietst.evaluation.command_line import add_report_options
from vietst.script_end import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs_dir", type=Path, help="holds run folders (default: the folder that holds RESULTS_DIR)"
    )
    parser.add_argument("--results_dir", type=Path, help="from run_evaluation.py (default: RUNS_DIR/results)")
    parser.add_argument("--output_dir", type=Path, help="for the PNG files (default: RUNS_DIR/charts)")
    add_report_options(parser)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from vietst.config import load_config
    from vietst.evaluation.charts import export_charts
    from vietst.evaluation.html_report import write_reports
    from vietst.evaluation.word_language import read_word_tags

    runs_dir = arguments.runs_dir
    if runs_dir is None:
        results_dir = arguments.results_dir
        runs_dir = results_dir.parent if results_dir else load_config("base").config.paths.output_dir
    results_dir = arguments.results_dir or runs_dir / "results"
    charts = export_charts(runs_dir, results_dir, arguments.output_dir or runs_dir / "charts")
    reports = write_reports(
        runs_dir,
        results_dir,
        arguments.audio_root if arguments.audio else None,
        read_word_tags(arguments.word_tags) if arguments.word_tags else {},
    )
    for reason in charts.not_drawn:
        print(f"not drawn: {reason}")
    for reason in reports.not_written:
        print(f"not written: {reason}")
    print("written:", *charts.written, *reports.written, sep="\n  ")


if __name__ == "__main__":
    run_script(main)
