"""Memory that runs out ends in a message that names settings, and a forecast."""

import os
import subprocess
import sys

import pytest
import torch

from tests.patience import HANGS_AFTER_S
from tests.tiny_runs import tiny_run_overrides
from vietst.errors import TrainingError
from vietst.full_memory import is_out_of_memory
from vietst.training.memory_plan import MemoryPlan
from vietst.training.memory_trace import GRADIENTS
from vietst.training.out_of_memory import advice
from vietst.training.runner import run_training
from vietst.training.trainer import SpeechTrainer

LIMITED_RUN = """
import resource
import sys

from vietst.config import load_config
from vietst.script_end import run_script
from vietst.training.runner import run_training
from vietst.training.trainer import SpeechTrainer

step = SpeechTrainer.training_step

def limited_step(self, *args):
    num_pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (num_pages * resource.getpagesize() + 2**26,) * 2)
    return step(self, *args)

SpeechTrainer.training_step = limited_step
run_script(lambda: run_training(load_config("nano_whisper", sys.argv[1:])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_an_allocation_that_fails_names_the_settings_to_change(tiny_corpus, tmp_path):
    overrides = (
        *tiny_run_overrides(tiny_corpus, tmp_path),
        "nano.d_model=256",
        "nano.encoder_layers=2",
        "nano.ffn_dim=1024",
        "training.batch_size=32",
    )
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED_RUN, *overrides],
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        env={**os.environ},
    )
    assert ended.returncode == 2, ended.stderr
    message = ended.stderr[ended.stderr.index("error: ") :]
    assert message.startswith("error: memory of the machine\n  rule:  a training fits it")
    assert "DefaultCPUAllocator" in message
    assert "a lower training.batch_size (now 32)" in message
    assert "training.gradient_checkpointing=true" in message
    assert "Traceback" not in ended.stderr


def test_the_message_says_what_the_plan_forecasts(nano_config, monkeypatch):
    def fails(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore about it")

    monkeypatch.setattr(SpeechTrainer, "training_step", fails)
    with pytest.raises(TrainingError) as error:
        run_training(nano_config("training.batch_seconds=16", "training.effective_batch=null"))
    assert "the plan forecasts 0.0" in error.value.rule
    assert error.value.rule.endswith("GB for a process and its fullest batch, 4 × 4.0 s")
    assert error.value.found == "CUDA out of memory. Tried to allocate 2.00 GiB."
    assert error.value.do.startswith("what helps: a lower training.batch_seconds (now 16)")


def test_other_errors_stay_what_they_are(nano_config, monkeypatch):
    def fails(*args):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(SpeechTrainer, "training_step", fails)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run_training(nano_config())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8"),
            True,
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_memory_that_ran_out(error, expected):
    assert is_out_of_memory(error) is expected


def test_what_takes_most_is_named_first_and_what_is_set_already_not_at_all(nano_config):
    config = nano_config("training.batch_size=8", "training.gradient_checkpointing=true").config
    activations = (("activations", 100), (GRADIENTS, 10))
    by_batch = MemoryPlan((), (("weights", 10),), activations, ((GRADIENTS, 10),))
    by_model = MemoryPlan((), (("weights", 500),), activations, ((GRADIENTS, 10),))
    assert advice(config, by_batch)[0] == "a lower training.batch_size (now 8)"
    assert advice(config, by_model)[0] == "training.optim=adamw_bnb_8bit or adafactor"
    assert not any("gradient_checkpointing" in hint for hint in advice(config, by_batch))
    single = nano_config(
        "training.batch_size=1", "training.eval_strategy=epoch", "model.finetune=lora"
    ).config
    assert not any("training.batch_size" in hint for hint in advice(single, None))
    assert not any("finetune" in hint for hint in advice(single, None))
