"""Build the feature caches that training reads; first clean and split the manifest where that is missing.

    python scripts/build_features.py [--config NAME|PATH] [--kinds KIND,KIND] [--num_proc N] \\
        [section.key=value ...]

Bare, it goes from data/export/manifest.tsv to data/features/ and builds every input kind that the shipped
configurations need; with --config, the one that this configuration's model needs. What is there already is
kept, an interrupted build is continued. Needs no network.
"""

import argparse

from vietst.runtime import run_script


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {value}")
    return value


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", help="shipped name or YAML file (base)")
    parser.add_argument("--kinds", metavar="KIND,KIND", help="only these, as log_mel-80,waveform-16k")
    parser.add_argument("--num_proc", type=positive, help="processes (data.num_proc, else one per CPU core)")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="for example paths.data_root=D"
    )
    return parser.parse_intermixed_args()


def main() -> None:
    arguments = parse_arguments()
    from vietst.config import load_config

    config = load_config(arguments.config or "base", arguments.overrides).config
    from vietst.data.features import INPUT_KINDS, input_kind_named
    from vietst.data.preparation import input_kind_of_config, prepare_features

    if arguments.kinds:
        kinds = [input_kind_named(name) for name in arguments.kinds.split(",")]
    elif arguments.config:
        kinds = [input_kind_of_config(config)]
    else:
        kinds = list(INPUT_KINDS.values())
    prepare_features(config, kinds, num_proc=arguments.num_proc)


if __name__ == "__main__":
    run_script(main)
