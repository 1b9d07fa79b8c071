"""train_whisper.py with a loss that only knows its own batch, for a test that must notice."""

import functools
from typing import Any

from vietst.models.whisper import MultitaskWhisper
from vietst.script_end import run_script
from vietst.training.command_line import train_from_command_line

forward = MultitaskWhisper.forward


@functools.wraps(forward)
def forward_of_one_batch(model: MultitaskWhisper, num_items_in_batch: Any = None, **inputs: Any) -> Any:
    return forward(model, **inputs)


if __name__ == "__main__":
    MultitaskWhisper.forward = forward_of_one_batch
    run_script(lambda: train_from_command_line(__doc__, default_config="nano_whisper", model_type="whisper"))
