"""Train Whisper on the feature cache (build it first: python scripts/build_features.py).

    accelerate launch --config_file accelerate_configs/h100x8.yaml scripts/train_whisper.py
    accelerate launch --config_file accelerate_configs/single_gpu.yaml scripts/train_whisper.py \\
        --config dev_whisper training.learning_rate=1e-5 output.dir=outputs/second_try
    accelerate launch --config_file accelerate_configs/cpu.yaml scripts/train_whisper.py --config nano_whisper
"""

from vietst.script_end import run_script
from vietst.training.command_line import train_from_command_line


def main() -> None:
    train_from_command_line(__doc__, default_config="prod_whisper", model_type="whisper")


if __name__ == "__main__":
    run_script(main)
