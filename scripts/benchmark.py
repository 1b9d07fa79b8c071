"""Measure what this project claims about its speed, on this machine.

    python scripts/benchmark.py [--output_dir benchmarks] features \\
        [--manifest data/export/manifest_clean.tsv] [--data_root .] [--num_utterances 2000] [--num_proc 1]

features: the feature cache against the public Hugging Face recipe (30 s padded float32), on the same clips
with the same number of processes. Prints seconds, bytes and their ratios, and adds them with the machine and
the versions to benchmarks/<stage>.json. Run it on an idle machine.
"""

import argparse
from pathlib import Path

from vietst.runtime import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks"), help="where results go")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    features = stages.add_parser("features", help="building the feature cache")
    features.add_argument("--manifest", type=Path, default=Path("data/export/manifest_clean.tsv"))
    features.add_argument("--data_root", type=Path, default=Path(), help="audio_path is relative to it")
    features.add_argument("--num_utterances", type=int, default=2000, help="the first of the manifest")
    features.add_argument("--num_proc", type=int, default=1, help="processes, for both")
    features.add_argument("--work_dir", type=Path, help="for temporary files: 1 MB per utterance")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from vietst.benchmarks import feature_build
    from vietst.benchmarks.results import add_result

    results = feature_build.benchmark_manifest(
        arguments.manifest,
        arguments.data_root,
        num_utterances=arguments.num_utterances,
        num_proc=arguments.num_proc,
        work_dir=arguments.work_dir,
    )
    path = add_result(arguments.output_dir, arguments.stage, results)
    print(f"{feature_build.describe(results)}\nadded to {path}")


if __name__ == "__main__":
    run_script(main)
