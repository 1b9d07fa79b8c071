"""The command line that the training scripts share. It imports nothing heavy: `--help` is instant."""

import argparse

from vietst.argument_types import positive_number
from vietst.errors import ConfigError
from vietst.runtime import quiet_libraries
from vietst.script_end import EXIT_USER_ERROR
from vietst.training.checkpoints import LATEST


def train_from_command_line(description: str, *, default_config: str, model_type: str) -> None:
    """What a training script does: parse, load the configuration, and train or say what it would do.

    Raises:
        VietstError: whatever the user can mend.
    """
    arguments = parse_training_arguments(description, default_config)
    if arguments.memory_gb is not None and not arguments.dry_run:
        raise ConfigError(
            where="--memory_gb",
            rule="it says for which GPU --dry_run plans; a training takes the device that it finds",
            found="no --dry_run",
            do="add --dry_run, or leave --memory_gb out",
        )
    from vietst.config import load_config

    loaded = load_config(arguments.config, arguments.overrides)
    found = loaded.config.model.type
    if found != model_type:
        raise ConfigError(
            where=f"--config {arguments.config}",
            rule=f"this script trains models of model.type {model_type}",
            found=f"model.type {found}",
            do=f"start scripts/train_{found}.py, or choose another configuration",
        )
    if arguments.print_run_folder:
        print(loaded.config.output.dir)
        return
    quiet_libraries()
    from vietst.training.run_plan import dry_run
    from vietst.training.runner import run_training

    if not arguments.dry_run:
        run_training(loaded, resume=arguments.resume)
    elif not dry_run(loaded, memory_gb=arguments.memory_gb):
        raise SystemExit(EXIT_USER_ERROR)


def parse_training_arguments(description: str, default_config: str) -> argparse.Namespace:
    """`config`, `resume` (None, `LATEST`, `AUTO`, a path), `dry_run`, `memory_gb` (None or above 0),
    `print_run_folder`, `overrides` (list of `key=value`)."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--config",
        default=default_config,
        metavar="NAME|PATH",
        help="shipped configuration or YAML file (default: %(default)s)",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=LATEST,
        metavar="CHECKPOINT",
        help="go on from a checkpoint folder; alone: from the run's newest complete one; auto: from that, or "
        "start anew where there is none",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="print the resolved configuration, the memory it takes and the plan; do not train",
    )
    parser.add_argument(
        "--memory_gb",
        type=positive_number,
        metavar="GB",
        help="with --dry_run: plan for a GPU of this memory, instead of what is here",
    )
    parser.add_argument(
        "--print_run_folder", action="store_true", help="print where the run folder would be, and do nothing"
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="configuration keys to set")
    arguments = parser.parse_intermixed_args()
    if arguments.resume is not None and "=" in arguments.resume:
        # `--resume key=value`: the value belongs to the overrides, --resume stands alone
        arguments.overrides.insert(0, arguments.resume)
        arguments.resume = LATEST
    return arguments
