"""Split the cleaned manifest into train, dev and test, by video, speaker and channel.

    python scripts/split_data.py [--input data/export/manifest_clean.tsv] [--output_dir data/splits] \\
        [--ratios 0.8 0.1 0.1] [--seed 42] [--eval_from verified]

Shares are met in hours of audio. Splits that are there already are kept: utterances stay where they are, new
ones are added, and videos, speakers and channels that left the manifest come back to the split that
pinned.tsv names. audit.json tells what the splits hold and what may leak between them. Rows on the takedown
list (paths.takedown_path) go nowhere. Options that are not given have the configuration's values, named in
round brackets.
"""

import argparse
from pathlib import Path

from vietst.script_end import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config", default="base", help="shipped name or YAML file that gives the defaults (base)")
    add("--input", type=Path, help="cleaned manifest (paths.clean_manifest_path)")
    add("--output_dir", type=Path, help="folder of the splits (paths.splits_dir)")
    add(
        "--ratios",
        type=float,
        nargs=3,
        metavar=("TRAIN", "DEV", "TEST"),
        help="shares in hours (data.split_ratios)",
    )
    add("--seed", type=int, help="decides where new groups go (training.seed)")
    add(
        "--eval_from",
        choices=("all", "verified"),
        help="what dev and test are drawn from (data.eval_from, else as the splits were made)",
    )
    add("--fresh", action="store_true", help="forget the splits that are there and split everything anew")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from vietst.config import load_config
    from vietst.data.splits import split_manifest
    from vietst.data.takedown_list import read_takedown

    config = load_config(arguments.config).config
    split_manifest(
        arguments.input or config.paths.clean_manifest_path,
        arguments.output_dir or config.paths.splits_dir,
        ratios=arguments.ratios or config.data.split_ratios,
        seed=config.training.seed if arguments.seed is None else arguments.seed,
        fresh=arguments.fresh,
        eval_from=arguments.eval_from or config.data.eval_from,
        takedown=read_takedown(config.paths.takedown_path),
    )


if __name__ == "__main__":
    run_script(main)
