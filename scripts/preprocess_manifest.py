"""Clean the manifest: texts, durations, keys; a reason for every row that is removed or changed.

    python scripts/preprocess_manifest.py [--input data/export/manifest.tsv] \\
        [--output data/export/manifest_clean.tsv]

Beside the output it writes rejected.tsv (what was removed or changed, by line, and why), audio_facts.tsv (so
that a second run decodes nothing) and preprocess_summary.json. Rows on the takedown list
(paths.takedown_path) are removed. Options that are not given have the configuration's values, named in round
brackets.
"""

import argparse
from pathlib import Path

from vietst.argument_types import not_negative_number, positive, positive_number
from vietst.script_end import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config", default="base", help="shipped name or YAML file that gives the defaults (base)")
    add("--input", type=Path, help="manifest, TSV or CSV (data.sources, else paths.manifest_path)")
    add("--output", type=Path, help="cleaned manifest (paths.clean_manifest_path)")
    add("--audio_root", type=Path, help="folder that audio_path is relative to (paths.data_root)")
    add(
        "--min_duration_s",
        type=not_negative_number,
        help="reject shorter clips, in seconds (data.min_duration_s)",
    )
    add(
        "--max_duration_s",
        type=positive_number,
        help="limit for long clips, in seconds (audio.max_length_seconds)",
    )
    add(
        "--too_long",
        choices=("reject", "truncate"),
        help="clips over the limit: reject, or use their start with the full text (data.too_long)",
    )
    add(
        "--allow_missing_translation",
        action="store_true",
        help="keep rows without a translation; they train the transcript alone",
    )
    add(
        "--video_id_pattern",
        help="regular expression that finds the video in audio_path where the manifest has no video_id: "
        "its group named video_id, else its first group, else the whole match (data.video_id_pattern)",
    )
    add("--num_proc", type=positive, help="audio files that are read at once (one for each CPU core)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from vietst.config import load_config
    from vietst.data.manifest import preprocess_manifest
    from vietst.data.row_rules import PreprocessOptions
    from vietst.data.sources import manifests_of
    from vietst.data.takedown_list import read_takedown

    config = load_config(arguments.config).config
    options = PreprocessOptions.from_config(
        config,
        min_duration_s=arguments.min_duration_s,
        max_duration_s=arguments.max_duration_s,
        too_long=arguments.too_long,
        require_translation=False if arguments.allow_missing_translation else None,
        video_id_pattern=arguments.video_id_pattern,
    )
    preprocess_manifest(
        arguments.input or manifests_of(config),
        arguments.output or config.paths.clean_manifest_path,
        audio_root=arguments.audio_root or config.paths.data_root,
        options=options,
        takedown=read_takedown(config.paths.takedown_path),
        num_proc=arguments.num_proc or config.data.num_proc,
    )


if __name__ == "__main__":
    run_script(main)
