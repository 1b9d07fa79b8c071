"""Train E2E (wav2vec2 + mBART-50) on the feature cache (build it first: python scripts/build_features.py).

accelerate launch --config_file accelerate_configs/h100x8.yaml scripts/train_e2e.py
accelerate launch --config_file accelerate_configs/single_gpu.yaml scripts/train_e2e.py --config dev_e2e
accelerate launch --config_file accelerate_configs/cpu.yaml scripts/train_e2e.py --config nano_e2e
"""

from vietst.script_end import run_script
from vietst.training.command_line import train_from_command_line


def main() -> None:
    train_from_command_line(__doc__, default_config="prod_e2e", model_type="e2e")


if __name__ == "__main__":
    run_script(main)
