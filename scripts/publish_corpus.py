"""Publish the corpus without its audio: ids, sources, times, texts, splits and an audit's signals.

    python scripts/publish_corpus.py [--output outputs/corpus] [--audit data/audit]
    python scripts/publish_corpus.py --source_url "https://www.youtube.com/watch?v={video_id}" \\
        --license cc-by-nc-4.0 --contact mail@example.org --push_to_hub OWNER/NAME [--public]

It writes a folder for `datasets.load_dataset`, with a dataset card, from the splits as they are. No audio is
in there, and of the manifest's columns only those that the card lists. Speakers have the names that the
manifest gives them: see that these are no names of persons. With --push_to_hub the folder becomes a dataset
repository, private unless --public; what it holds already is not sent again.
"""

import argparse
from pathlib import Path

from vietst.runtime import quiet_libraries
from vietst.script_end import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--config", default="base", help="shipped name or YAML file that says where things are (base)")
    add("--output", type=Path, metavar="DIR", help="the folder (corpus below paths.output_dir)")
    add("--audit", type=Path, metavar="DIR", help="of audit_manifest.py (audit beside the splits, if there)")
    add(
        "--source_url",
        metavar="ADDRESS",
        help="where a recording is, with a column in braces: {video_id} (column source_url, if there)",
    )
    add("--license", help="of the texts, as the Hub writes it (hub.dataset_license)")
    add("--contact", help="whom to ask for a takedown: an address (the repository's Community tab)")
    add("--push_to_hub", metavar="OWNER/NAME", help="publish it there; made if it is not there")
    add("--public", action="store_true", help="for everybody to see (private)")
    add("overrides", nargs="*", metavar="section.key=value", help="for example paths.splits_dir=DIR")
    arguments = parser.parse_intermixed_args()
    if arguments.public and not arguments.push_to_hub:
        parser.error("--public says how --push_to_hub publishes")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    quiet_libraries()
    from vietst.config import load_config
    from vietst.hub.corpus_by_hand import CorpusOptions, publish_corpus

    config = load_config(arguments.config, arguments.overrides).config
    publish_corpus(
        config,
        CorpusOptions(
            output=arguments.output,
            audit_dir=arguments.audit,
            source_url=arguments.source_url,
            license=arguments.license or config.hub.dataset_license,
            contact=arguments.contact,
            repo_id=arguments.push_to_hub,
            public=arguments.public,
        ),
    )


if __name__ == "__main__":
    run_script(main)
