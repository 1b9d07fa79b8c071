"""Command-line options that several scripts have. Imports nothing heavy, so that --help is quick."""

import argparse
from pathlib import Path


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """A whole number of at least 0."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}")
    return int(text)


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
