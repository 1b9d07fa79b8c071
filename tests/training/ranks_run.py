"""The training script, after which every process leaves the weights that it holds: for tests that launch it.

    accelerate launch … ranks_run.py FOLDER [--resume CHECKPOINT] section.key=value …

FOLDER/rank-0.safetensors holds the parameters of process 0, and so on.
"""

import sys
from pathlib import Path

from safetensors.torch import save_file

from vietst.config import load_config
from vietst.runtime import rank, run_script
from vietst.training import runner
from vietst.training.command_line import parse_training_arguments
from vietst.training.preparation import Preparation
from vietst.training.runner import run_training
from vietst.training.trainer import SpeechTrainer


def main() -> None:
    folder = Path(sys.argv.pop(1))
    arguments = parse_training_arguments(__doc__, "nano_whisper")

    def keep_weights(trainer: SpeechTrainer, preparation: Preparation) -> None:
        model = trainer.accelerator.unwrap_model(trainer.model)
        weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        save_file(weights, folder / f"rank-{rank()}.safetensors")

    runner.save_model = keep_weights
    run_training(load_config(arguments.config, arguments.overrides), resume=arguments.resume)


if __name__ == "__main__":
    run_script(main)
