"""The training script, which also writes down what every process was given: for tests that launch it.

    accelerate launch … recording_run.py FOLDER [--resume CHECKPOINT] section.key=value …

FOLDER/rank-0.json holds one list per forward pass: the numbers of the utterances in it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from vietst.config import load_config
from vietst.runtime import rank
from vietst.script_end import run_script
from vietst.training.command_line import parse_training_arguments
from vietst.training.runner import run_training
from vietst.training.trainer import SpeechTrainer


def record_batches(seen: list[list[int]]) -> None:
    """Has every later training of this process append its batches to `seen`."""
    original = SpeechTrainer.training_step

    def training_step(self: SpeechTrainer, model: Any, inputs: dict[str, Any], *args: Any) -> Any:
        seen.append(inputs["row_index"].tolist())
        return original(self, model, inputs, *args)

    SpeechTrainer.training_step = training_step


def main() -> None:
    folder = Path(sys.argv.pop(1))
    arguments = parse_training_arguments(__doc__, "nano_whisper")
    seen: list[list[int]] = []
    record_batches(seen)
    run_training(load_config(arguments.config, arguments.overrides), resume=arguments.resume)
    (folder / f"rank-{rank()}.json").write_text(json.dumps(seen), encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
