"""The training script, in which the last rank runs out of memory in step 2: for tests that launch it."""

from typing import Any

import torch

from vietst.runtime import rank, world_size
from vietst.script_end import run_script
from vietst.training.command_line import train_from_command_line
from vietst.training.trainer import SpeechTrainer


def fail_in_step_2() -> None:
    original = SpeechTrainer.training_step

    def training_step(self: SpeechTrainer, *args: Any) -> torch.Tensor:
        if rank() == world_size() - 1 and self.state.global_step == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(self, *args)

    SpeechTrainer.training_step = training_step


def main() -> None:
    fail_in_step_2()
    train_from_command_line(str(__doc__), default_config="nano_whisper", model_type="whisper")


if __name__ == "__main__":
    run_script(main)
