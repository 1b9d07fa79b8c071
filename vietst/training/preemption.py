"""Stopping when the scheduler asks for it: a checkpoint after this step, and a note that there is more to do.

SLURM, spot machines and `kill` send SIGTERM some time before they take the machine away; SIGUSR1 is what
SLURM is usually told to send for that (`--signal=USR1@300`). `accelerate launch` neither passes signals on to
one process nor exit codes back. So the signal must reach the training processes themselves, as it does when
it is sent to the process group, and whoever starts them learns from the note in the run folder that they want
to be started again.
"""

import contextlib
import functools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from vietst.runtime import get_logger, warn_once
from vietst.script_end import STOP_SIGNALS, Preempted
from vietst.training.launching import NOTE_FILE

logger = get_logger(__name__)


class StopRequest:
    """Whether this process was asked to stop; `signal_number` is 0 until then."""

    signal_number = 0


@contextlib.contextmanager
def noted_stop_signals() -> Iterator[StopRequest]:
    """While the block runs, `STOP_SIGNALS` are noted instead of ending the process."""
    request = StopRequest()

    def note(number: int, frame: Any) -> None:
        request.signal_number = number

    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def outlive_stop_signals(worker_id: int, *, then: Callable[[int], None] | None) -> None:
    """For a data loader's worker process: it gets the group's signals too, and is needed for the last step.

    Its parent can still end it. Where the system does not say who sent a signal (macOS, Windows), all end it.

    Args:
        then: what is done in a starting worker besides.
    """
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        threading.Thread(target=_end_when_the_parent_says_so, daemon=True).start()
    if then is not None:
        then(worker_id)


def _end_when_the_parent_says_so() -> None:
    if sys.platform == "linux":
        while signal.sigwaitinfo(STOP_SIGNALS).si_pid != os.getppid():
            pass
        os._exit(0)


def let_workers_outlive_stop_signals(loader: Any) -> None:
    """Have the workers that this loader will start call `outlive_stop_signals`.

    Args:
        loader: as accelerate prepares it, a wrapper around a `torch.utils.data.DataLoader`.
    """
    wrapped = loader.base_dataloader
    wrapped.worker_init_fn = functools.partial(outlive_stop_signals, then=wrapped.worker_init_fn)


def remove_note(run_dir: Path) -> None:
    (run_dir / NOTE_FILE).unlink(missing_ok=True)


class PreemptionCallback(TrainerCallback):
    """Has all processes save a checkpoint after the same step once one of them was asked to stop, and stop.

    Several processes ask each other after every step and learn the answer after the next one, by when it has
    come: reading it at once would have them wait for their GPUs.

    Raises:
        Preempted: out of `train()`, when the checkpoint is complete.
    """

    def __init__(self, request: StopRequest, run_dir: Path) -> None:
        self.request, self.run_dir = request, run_dir
        self.signal_number = 0
        self._asked: _OnItsWay | None = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.signal_number = self._agreed(args.device)
        if self.signal_number:
            warn_once(
                logger,
                "%s: saving a checkpoint after step %d, and stopping",
                signal.Signals(self.signal_number).name,
                state.global_step,
            )
            # At the end of an epoch that is evaluated as such, dev comes first, and a checkpoint follows.
            evaluates_now = args.save_strategy == SaveStrategy.EPOCH and float(state.epoch or 0).is_integer()
            control.should_save = control.should_save or not evaluates_now

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self.signal_number:
            return
        name = signal.Signals(self.signal_number).name
        checkpoint = self.run_dir / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero:
            note = {"stopped_by": name, "step": state.global_step, "checkpoint": checkpoint.name}
            (self.run_dir / NOTE_FILE).write_text(json.dumps(note) + "\n", encoding="utf-8", newline="\n")
        raise Preempted(
            f"stopped by {name} after step {state.global_step} of {state.max_steps}: {checkpoint} is saved; "
            "go on with --resume"
        )

    def _agreed(self, device: torch.device) -> int:
        """The highest number that any process has; of several ones, that any had a step ago."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self.request.signal_number
        # Filled on the device: copying a number there waits for it.
        number = torch.full((), self.request.signal_number, device=device)
        # On a GPU the host does not wait for it anyway; on a CPU a process would wait for the slowest.
        asked = torch.distributed.all_reduce(
            number, torch.distributed.ReduceOp.MAX, async_op=device.type == "cpu"
        )
        before, self._asked = self._asked, _OnItsWay(number, asked)
        return 0 if before is None else before.arrived()


class _OnItsWay:
    """A number that is agreed on, or copied from its device, while the training goes on."""

    def __init__(self, number: torch.Tensor, asked: torch.distributed.Work | None) -> None:
        self._asked = asked
        self._copy = number.to("cpu", non_blocking=True)
        self._event = torch.cuda.Event() if number.is_cuda else None
        if self._event is not None:
            self._event.record()

    def arrived(self) -> int:
        if self._asked is not None:
            self._asked.wait()
        if self._event is not None:
            self._event.synchronize()
        return int(self._copy)
