"""A signal to stop, in this process; test_interrupted_launches.py sends it to launched ones."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState
from transformers.trainer_utils import SaveStrategy

from tests.patience import HANGS_AFTER_S
from tests.tiny_runs import history
from vietst.script_end import EXIT_PREEMPTED, STOP_SIGNALS, Preempted
from vietst.training.checkpoints import AUTO
from vietst.training.launching import NOTE_FILE
from vietst.training.preemption import PreemptionCallback, StopRequest
from vietst.training.runner import run_training
from vietst.training.trainer import SpeechTrainer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there, such a signal ends the process")


@pytest.fixture
def signal_in_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, signal.Signals], None]:
    """`signal_in_step(3, SIGTERM)`: this process gets it once, in the third step from now on."""
    original = SpeechTrainer.training_step

    def send(step: int, number: signal.Signals) -> None:
        steps = iter(range(1, 1000))

        def training_step(self: SpeechTrainer, *args: Any) -> Any:
            if next(steps) == step:
                os.kill(os.getpid(), number)
            return original(self, *args)

        monkeypatch.setattr(SpeechTrainer, "training_step", training_step)

    return send


OPTIONS = {
    "between evaluations": ("training.eval_steps=4", "training.save_steps=4"),
    "at an evaluation": ("training.eval_steps=4", "training.save_steps=4"),
    "evaluated by epoch": ("training.eval_strategy=epoch",),
    "with workers": ("training.eval_steps=4", "training.save_steps=4", "dataloader.num_workers=2"),
}


@pytest.mark.parametrize(
    ("kind", "number", "step"),
    [
        ("between evaluations", STOP_SIGNALS[-1], 3),
        ("at an evaluation", signal.SIGTERM, 4),
        ("evaluated by epoch", signal.SIGTERM, 3),
        ("evaluated by epoch", signal.SIGTERM, 5),
        ("with workers", signal.SIGTERM, 5),
    ],
)
def test_a_stopped_training_goes_on_as_if_it_had_not_been(nano_config, signal_in_step, kind, number, step):
    """35 utterances in batches of 8 are 5 steps: the signal comes inside an epoch, or in its last step."""
    options = OPTIONS[kind]
    common = (*options, "training.max_steps=8", "training.batch_size=8", "augmentation.mask_time_prob=0.1",
              "training.load_best_model_at_end=false", "evaluation.max_dev_utterances=2")  # fmt: skip
    straight = run_training(nano_config(*common))
    stopped = Path(straight).with_name("stopped")
    loaded = nano_config(*common, f"output.dir={stopped.as_posix()}")
    signal_in_step(step, number)
    handlers = [signal.getsignal(each) for each in STOP_SIGNALS]
    with pytest.raises(Preempted, match=rf"stopped by {number.name} after step {step} of 8: .*--resume"):
        run_training(loaded, resume=AUTO)
    assert [signal.getsignal(each) for each in STOP_SIGNALS] == handlers
    note = json.loads((stopped / NOTE_FILE).read_text(encoding="utf-8"))
    assert note == {"stopped_by": number.name, "step": step, "checkpoint": f"checkpoint-{step}"}
    run_training(loaded, resume=AUTO)
    assert not (stopped / NOTE_FILE).exists()
    for key in ("loss", "learning_rate", "eval_loss"):
        assert history(stopped, key) == history(straight, key), key
    weights = [(run_dir / "model.safetensors").read_bytes() for run_dir in (straight, stopped)]
    assert weights[0] == weights[1]


def test_processes_learn_from_each_other_a_step_later(tmp_path):
    """So that none of them waits for its GPU; here, one process that is told it were one of several."""
    request = StopRequest()
    callback = PreemptionCallback(request, tmp_path)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        signals_at_ends = []
        for sent in (0, signal.SIGTERM, signal.SIGTERM):
            request.signal_number = sent
            arguments = SimpleNamespace(device=torch.device("cpu"), save_strategy=SaveStrategy.STEPS)
            control = TrainerControl()
            callback.on_step_end(arguments, TrainerState(), control)
            assert control.should_save == bool(callback.signal_number)
            signals_at_ends.append(callback.signal_number)
    finally:
        torch.distributed.destroy_process_group()
    assert signals_at_ends == [0, 0, signal.SIGTERM]


def test_a_stopped_script_has_an_exit_code_of_its_own_and_says_how_to_go_on():
    program = """
from vietst.script_end import Preempted, run_script

def stopped():
    raise Preempted("stopped by SIGTERM; go on with --resume")

run_script(stopped)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=HANGS_AFTER_S
    )
    assert ran.returncode == EXIT_PREEMPTED
    assert ran.stderr == "stopped by SIGTERM; go on with --resume\n"
