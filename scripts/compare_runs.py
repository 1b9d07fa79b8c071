"""Tell whether run B is better than run A, or whether the difference may be chance.

    python scripts/compare_runs.py nano_whisper nano_e2e
    python scripts/compare_runs.py outputs/results/a_predictions.csv elsewhere/b.csv

Runs are named as in outputs/results, or by their predictions files: ours or anybody's CSV with the columns
id, video_id, duration_s, transcript, translation and transcript_hypothesis or translation_hypothesis.
Utterances are paired by id, and whole videos are drawn and swapped, since the utterances of one video are not
independent. Prints both scores, the difference, its 95 % interval and p-value, and writes
<A>_vs_<B>_comparison.json and <A>_vs_<B>_report.html, which shows where either run is better.
"""

import argparse
from pathlib import Path

from vietst.evaluation.command_line import add_report_options
from vietst.script_end import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run_a", metavar="A", help="a run's name, or a predictions file")
    parser.add_argument("run_b", metavar="B", help="the same of the other run")
    parser.add_argument(
        "--results_dir",
        type=Path,
        default=Path("outputs/results"),
        help="where runs are looked for, and the comparison is written (default: %(default)s)",
    )
    add_report_options(parser)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from vietst.evaluation.compare import compare_runs, format_comparison, write_comparison
    from vietst.evaluation.html_report import write_comparison_report
    from vietst.evaluation.predictions_file import predictions_path
    from vietst.evaluation.word_language import read_word_tags

    path_a, path_b = (
        predictions_path(run, arguments.results_dir) for run in (arguments.run_a, arguments.run_b)
    )
    user_tags = read_word_tags(arguments.word_tags) if arguments.word_tags else {}
    comparison = compare_runs(path_a, path_b, user_tags)
    print(format_comparison(comparison))
    written = arguments.results_dir / f"{comparison.run_a}_vs_{comparison.run_b}_comparison.json"
    write_comparison(comparison, written)
    audio_root = arguments.audio_root if arguments.audio else None
    report = write_comparison_report(written, path_a, path_b, audio_root, user_tags)
    print(f"\nWritten:\n  {written}\n  {report}")


if __name__ == "__main__":
    run_script(main)
