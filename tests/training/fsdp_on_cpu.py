"""A script under FSDP on CPU processes, which accelerate does not offer: for tests that launch it.

    accelerate launch --config_file accelerate_configs/fsdp2.yaml … fsdp_on_cpu.py SCRIPT [ARGUMENTS …]

accelerate is told that gloo's processes are a "multi GPU" group whose device is the CPU.
"""

import os
import runpy
import sys

os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"

from accelerate.state import PartialState
from accelerate.utils import DistributedType
from transformers import TrainingArguments

finish = TrainingArguments.__post_init__


def finish_for_devices(arguments: TrainingArguments) -> None:
    arguments.use_cpu = False
    finish(arguments)


TrainingArguments.__post_init__ = finish_for_devices
PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
