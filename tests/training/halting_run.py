"""A training script that stands still inside the writing of a checkpoint, for tests that kill it there.

    HALT_IN_CHECKPOINT=6 accelerate launch … halting_run.py --config NAME [--resume …] section.key=value …

The processes halt in checkpoint-6 when weights and optimizer are written, and the rest is not.
"""

import os
import time
from typing import Any

from vietst.config import load_config
from vietst.script_end import run_script
from vietst.training.command_line import parse_training_arguments
from vietst.training.runner import run_training
from vietst.training.trainer import SpeechTrainer


def halt_in_checkpoint(step: int) -> None:
    original = SpeechTrainer._save_rng_state

    def save_rng_state(self: SpeechTrainer, *args: Any) -> None:
        if self.state.global_step == step:
            time.sleep(3600)  # whoever waits for it kills it
        original(self, *args)

    SpeechTrainer._save_rng_state = save_rng_state


def main() -> None:
    arguments = parse_training_arguments(__doc__, "nano_whisper")
    halt_in_checkpoint(int(os.environ["HALT_IN_CHECKPOINT"]))
    run_training(load_config(arguments.config, arguments.overrides), resume=arguments.resume)


if __name__ == "__main__":
    run_script(main)
