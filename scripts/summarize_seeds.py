"""Mean and standard deviation of every score over runs that differ in their seed, as rows for a paper.

    python scripts/summarize_seeds.py nano_seed1 nano_seed2 nano_seed3

Runs are named as in outputs/results, or by their _metrics.json files; all must have been scored on the same
test split. Prints a Markdown table and a LaTeX row; ± is the standard deviation of the sample, which tells
how much trainings differ, not how sure a score is on these utterances (that is the interval of each run).
"""

import argparse
from pathlib import Path

from vietst.script_end import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's name, or a _metrics.json file")
    parser.add_argument("--name", help="of the row (default: the first run's name without the seed's number)")
    parser.add_argument(
        "--results_dir",
        type=Path,
        default=Path("outputs/results"),
        help="where runs are looked for (default: %(default)s)",
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from vietst.evaluation.results_table import SCORE_LABELS
    from vietst.evaluation.seeds import format_latex, format_markdown, summarize_seeds

    summary = summarize_seeds(arguments.runs, arguments.results_dir, arguments.name)
    print(f"{format_markdown(summary)}\n\n{format_latex(summary)}")
    if summary.not_in_every_run:
        print(f"\nNot in every run: {', '.join(SCORE_LABELS[name] for name in summary.not_in_every_run)}.")


if __name__ == "__main__":
    run_script(main)
