"""Remove videos, utterances, speakers or channels everywhere, and keep them out.

    python scripts/take_down.py --add VIDEO_ID [--add channel_id=CHANNEL …]
    python scripts/take_down.py [--dry_run]

--add writes to the takedown list (paths.takedown_path), which cleaning and splitting obey from then on; it
can be edited by hand as well. Then the cleaned manifest, rejected.tsv, splits, feature caches and cached
encoder states lose what the list names: features are copied into caches without it, the old files deleted.
Test and dev stay what they are, but for what is removed. What this cannot take back is listed: audio files,
the manifest as it was exported, trained models, predictions, and what was published.
"""

import argparse

from vietst.script_end import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--config", default="base", help="shipped name or YAML file that says where things are (base)")
    add(
        "--add",
        action="append",
        default=[],
        metavar="ENTRY",
        help="a video_id (or the id or audio_path of an utterance), speaker_id=… or channel_id=…; repeatable",
    )
    add("--dry_run", action="store_true", help="say what would be removed, and change nothing")
    add(
        "--no_rebuild",
        action="store_true",
        help="delete feature caches at once, where there is no room for new ones beside them",
    )
    add("overrides", nargs="*", metavar="section.key=value", help="for example paths.takedown_path=FILE")
    arguments = parser.parse_intermixed_args()
    if arguments.dry_run and arguments.add:
        parser.error("--add writes to the list; look with --dry_run at what is in it")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    from vietst.config import load_config
    from vietst.data.take_down import find, take_down
    from vietst.data.takedown_list import add_entries
    from vietst.hub.takedown_report import say_what_is_left, say_what_was_found

    config = load_config(arguments.config, arguments.overrides).config
    takedown = add_entries(config.paths.takedown_path, arguments.add)
    if arguments.dry_run:
        found = find(config, takedown)
    else:
        found = take_down(config, takedown, rebuild=not arguments.no_rebuild)
    say_what_was_found(takedown, found, is_done=not arguments.dry_run)
    say_what_is_left(config, takedown, found, is_done=not arguments.dry_run)
    if found.problem is not None:
        raise found.problem


if __name__ == "__main__":
    run_script(main)
