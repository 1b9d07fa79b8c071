"""Make a small spoken corpus of Vietnamese with English words inside, without downloads.

    python scripts/make_sample_corpus.py [--output_dir data/export] [--num_utterances 4000] [--num_videos 88]
        [--sentence_length short|medium|long] [--seed 1] [--num_proc N] [--data_root .] [--overwrite]

Writes OUTPUT_DIR/manifest.tsv and OUTPUT_DIR/audio/<video>/<nnnn>.wav (22.05 kHz, mono, 16 bit). The same
options give the same bytes. The voices are synthetic: the corpus shows that the pipeline learns, no more.
"""

import argparse
import os
from pathlib import Path

from vietst.argument_types import positive
from vietst.data.sample_corpus import CorpusOptions, make_sample_corpus
from vietst.data.sample_sentences import NUM_CLAUSES
from vietst.script_end import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    defaults = CorpusOptions()
    parser.add_argument("--output_dir", type=Path, default=Path("data/export"))
    parser.add_argument("--data_root", type=Path, default=Path(), help="audio paths are relative to it")
    parser.add_argument("--num_utterances", type=positive, default=defaults.num_utterances)
    parser.add_argument("--num_videos", type=positive, default=defaults.num_videos, help="one speaker each")
    parser.add_argument("--sentence_length", choices=list(NUM_CLAUSES), default=defaults.sentence_length)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--num_proc", type=positive, default=os.cpu_count() or 1, help="videos at a time")
    parser.add_argument("--overwrite", action="store_true", help="replace a manifest that is there already")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    options = CorpusOptions(
        num_utterances=arguments.num_utterances,
        num_videos=arguments.num_videos,
        sentence_length=arguments.sentence_length,
        seed=arguments.seed,
    )
    make_sample_corpus(
        arguments.output_dir,
        options,
        data_root=arguments.data_root,
        num_proc=arguments.num_proc,
        overwrite=arguments.overwrite,
    )


if __name__ == "__main__":
    run_script(main)
