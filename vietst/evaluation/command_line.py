"""Command-line options that several scripts have. Imports nothing heavy, so that --help is quick."""

import argparse
from pathlib import Path


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """`--word_tags`, `--audio` and `--audio_root`: how reports show utterances."""
    parser.add_argument(
        "--word_tags",
        type=Path,
        metavar="TSV",
        help="your own words for the rates by language: word, tab, vi|en|name|number|other on each line",
    )
    parser.add_argument(
        "--audio",
        action="store_true",
        help="audio players in reports: links to files below AUDIO_ROOT, so keep both in place",
    )
    parser.add_argument(
        "--audio_root",
        type=Path,
        default=Path(),
        help="what audio_path is relative to (default: current folder)",
    )
