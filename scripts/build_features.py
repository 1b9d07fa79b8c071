"""Build the feature caches that training reads; first clean and split the manifest where that is missing.

    python scripts/build_features.py [--config NAME|PATH] [--kinds KIND,KIND] [--num_proc N] \\
        [--shard I/N] [--verify] [--push_to_hub OWNER/NAME [--public]] [section.key=value ...]

Bare, it goes from data/export/manifest.tsv to data/features/ and builds every input kind that the shipped
configurations need; with --config, the one that this configuration's model needs. What is there already is
kept, an interrupted build is continued. --verify first reads all that is there, and compares it with its
checksums: what a disk or a copy has changed is built again, of cached encoder states by the next training.
Needs no network, but for --push_to_hub.

Several processes and machines that share the disk share one build: started by `accelerate launch`, or as the
parts of a job array, counted from 1 (--shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT, array=1-8), or
both. The cache is the same as from one process. Parts may start, end and be killed in any order; the last to
end completes the cache, and the same command, or the one without --shard, does what is still missing.

--push_to_hub uploads the features to a dataset repository, private unless --public: features, ids, texts and
all other columns of the manifest, no audio files. But features of waveform-16k are the speech itself, and of
log_mel it can be reconstructed roughly. What the data's license (hub.dataset_license) permits nobody to
publish stays private. The token comes from HF_TOKEN or `hf auth login`. Train on them with
paths.features_dir=hf://datasets/OWNER/NAME.
"""

import argparse
import re

from vietst.argument_types import positive
from vietst.runtime import world_size
from vietst.script_end import run_script


def part_of_build(text: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"(\d+)/(\d+)", text)
    if not numbers:
        raise argparse.ArgumentTypeError(f"must be I/N, as 1/8, not {text!r}")
    part, num_parts = map(int, numbers.groups())
    if not 1 <= part <= num_parts:
        raise argparse.ArgumentTypeError(f"counts from 1/{num_parts} to {num_parts}/{num_parts}, not {text}")
    return part, num_parts


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", help="shipped name or YAML file (base)")
    parser.add_argument("--kinds", metavar="KIND,KIND", help="only these, as log_mel-80,waveform-16k")
    parser.add_argument(
        "--num_proc", type=positive, help="processes of each launched one (data.num_proc, else the CPU cores)"
    )
    parser.add_argument(
        "--shard", type=part_of_build, metavar="I/N", default=(1, 1), help="one of N parts of the build"
    )
    parser.add_argument("--verify", action="store_true", help="look for features that changed on the disk")
    parser.add_argument("--push_to_hub", metavar="OWNER/NAME", help="publish the finished features there")
    parser.add_argument("--public", action="store_true", help="for everybody to see (private)")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="for example paths.data_root=D"
    )
    arguments = parser.parse_intermixed_args()
    if arguments.public and not arguments.push_to_hub:
        parser.error("--public says how --push_to_hub publishes")
    if arguments.verify and (arguments.shard != (1, 1) or world_size() > 1 or arguments.push_to_hub):
        parser.error("--verify is for one process, before a push or a shared build")
    if arguments.push_to_hub and (arguments.shard != (1, 1) or world_size() > 1):
        parser.error("--push_to_hub is for one process: push when the shared build is complete")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    from vietst.config import load_config

    config = load_config(arguments.config or "base", arguments.overrides).config
    from vietst.data.build_members import BuildMember
    from vietst.data.features import INPUT_KINDS, input_kind_named
    from vietst.data.preparation import input_kind_of_config, prepare_features

    if arguments.kinds:
        kinds = [input_kind_named(name) for name in arguments.kinds.split(",")]
    elif arguments.config:
        kinds = [input_kind_of_config(config)]
    else:
        kinds = list(INPUT_KINDS.values())
    if arguments.push_to_hub:
        from vietst.hub.by_hand import push_features

        push_features(
            config, kinds, arguments.push_to_hub, public=arguments.public, num_proc=arguments.num_proc
        )
        return
    member = BuildMember.of_this_process(*arguments.shard)
    prepare_features(
        config,
        kinds,
        num_proc=arguments.num_proc,
        member=member,
        verify=arguments.verify,
        progress=member.rank == 0,
    )


if __name__ == "__main__":
    run_script(main)
