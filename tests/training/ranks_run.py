"""The training script, after which every process leaves the weights that it holds: for tests that launch it.

    accelerate launch … ranks_run.py FOLDER [--resume CHECKPOINT] section.key=value …

FOLDER/rank-0.safetensors holds the parameters of process 0, and so on; its metadata says in how many pieces
of memory the gradients of the last step were (of DDP; else 0), and what is drawn next at random.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

from vietst.config import load_config
from vietst.runtime import rank
from vietst.script_end import run_script
from vietst.training import runner
from vietst.training.command_line import parse_training_arguments
from vietst.training.preparation import Preparation
from vietst.training.runner import run_training
from vietst.training.trainer import SpeechTrainer


def note_gradient_memory(pieces: set[int]) -> None:
    """Has every later training of this process leave the addresses of its last gradients in `pieces`."""
    original = SpeechTrainer._get_grad_norm

    def get_grad_norm(self: SpeechTrainer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self.model_wrapped, DistributedDataParallel):
            gradients = [parameter.grad for parameter in self.model.parameters()]
            pieces.clear()
            pieces.update(g.untyped_storage().data_ptr() for g in gradients if g is not None)
        return original(self, *args, **kwargs)

    SpeechTrainer._get_grad_norm = get_grad_norm


def main() -> None:
    folder = Path(sys.argv.pop(1))
    arguments = parse_training_arguments(__doc__, "nano_whisper")
    pieces: set[int] = set()
    note_gradient_memory(pieces)

    def keep_weights(trainer: SpeechTrainer, preparation: Preparation) -> None:
        model = trainer.accelerator.unwrap_model(trainer.model)
        weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        metadata = {"num_gradient_pieces": str(len(pieces)), "drawn": str(torch.rand(4).tolist())}
        save_file(weights, folder / f"rank-{rank()}.safetensors", metadata=metadata)

    runner.save_model = keep_weights
    run_training(load_config(arguments.config, arguments.overrides), resume=arguments.resume)


if __name__ == "__main__":
    run_script(main)
