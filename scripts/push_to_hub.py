"""Push a trained model to a repository of the Hugging Face Hub, or of another Hub: HF_ENDPOINT names it.

    python scripts/push_to_hub.py --model_dir outputs/prod_whisper --repo_id OWNER/NAME [--public]
    python scripts/push_to_hub.py --model_dir outputs/prod_whisper --what features --repo_id OWNER/NAME
    python scripts/push_to_hub.py --model_dir outputs/prod_whisper --dry_run

The model folder is a run's, one of its checkpoints', or another model of this project. Weights, processor,
model card, and a record of the run without local paths go up in one commit; what the repository holds already
is not sent again. What is not said here is taken from the section `hub` of the run's configuration.
--what features pushes the features that the run was trained on, as they are; build_features.py --push_to_hub
first builds what is missing.

The repository is private unless --public. The token comes from HF_TOKEN or `hf auth login`.
"""

import argparse
from pathlib import Path

from vietst.runtime import quiet_libraries
from vietst.script_end import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model_dir", type=Path, required=True, metavar="DIR", help="run or model folder")
    parser.add_argument("--repo_id", metavar="OWNER/NAME", help="made if it is not there (the run's)")
    visibility = parser.add_mutually_exclusive_group()
    visibility.add_argument(
        "--private", action="store_true", default=None, help="for those who may (default)"
    )
    visibility.add_argument(
        "--public", action="store_false", dest="private", default=None, help="for everybody to see"
    )
    parser.add_argument("--revision", metavar="BRANCH", help="made if it is not there (main)")
    parser.add_argument("--what", choices=["model", "features"], default="model", help="(%(default)s)")
    parser.add_argument("--dry_run", action="store_true", help="list what would go up, and ask no Hub")
    parser.add_argument(
        "overrides", nargs="*", metavar="hub.key=value", help="for example hub.license=cc-by-nc-4.0"
    )
    arguments = parser.parse_intermixed_args()
    if arguments.what == "features":
        if arguments.revision or arguments.dry_run:
            parser.error("--revision and --dry_run are for models")
        if not all(override.startswith("hub.dataset_license=") for override in arguments.overrides):
            parser.error("of hub.key=value, hub.dataset_license alone is for features")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    quiet_libraries()
    from vietst.hub.by_hand import push_features_of_run, push_model_folder

    if arguments.what == "features":
        push_features_of_run(
            arguments.model_dir, arguments.repo_id, arguments.overrides, public=arguments.private is False
        )
        return
    stated = {key: getattr(arguments, key) for key in ("repo_id", "private", "revision")}
    overrides = [f"hub.{key}={value}" for key, value in stated.items() if value is not None]
    push_model_folder(arguments.model_dir, [*overrides, *arguments.overrides], dry_run=arguments.dry_run)


if __name__ == "__main__":
    run_script(main)
