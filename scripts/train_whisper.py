"""Train Whisper on the feature cache (build it first: python scripts/build_features.py).

    accelerate launch --config_file accelerate_configs/h100x8.yaml scripts/train_whisper.py
    accelerate launch --config_file accelerate_configs/single_gpu.yaml scripts/train_whisper.py \\
        --config dev_whisper training.learning_rate=1e-5 output.dir=outputs/second_try
    accelerate launch --config_file accelerate_configs/cpu.yaml scripts/train_whisper.py --config nano_whisper
"""

from vietst.runtime import EXIT_USER_ERROR, quiet_libraries, run_script
from vietst.training.command_line import parse_training_arguments

DEFAULT_CONFIG = "prod_whisper"


def main() -> None:
    arguments = parse_training_arguments(__doc__, DEFAULT_CONFIG)
    from vietst.config import load_config

    loaded = load_config(arguments.config, arguments.overrides)
    quiet_libraries()
    from vietst.training.runner import dry_run, run_training

    if not arguments.dry_run:
        run_training(loaded, resume=arguments.resume)
    elif not dry_run(loaded):
        raise SystemExit(EXIT_USER_ERROR)


if __name__ == "__main__":
    run_script(main)
