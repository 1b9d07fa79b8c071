"""What goes wrong in one process of a run ends all of them within seconds, and is said once.

The processes of `torch.distributed` share a small key-value store, which the launcher of the first machine
keeps. A process that fails writes its message there, unless another one was faster. In every process a thread
looks for such a message, and ends the process whatever collective it waits in: a launcher ends the processes
of its own machine only, and a broken connection is noticed by gloo, but not by NCCL.
"""

import dataclasses
import json
import os
import sys
import threading
import time
from datetime import timedelta
from typing import Any, Final, NoReturn

_LOOK_EVERY_S: Final = 0.25
"""How often a process asks the store."""

_CONNECT_S: Final = 5.0
"""How long a process tries to reach the store before it reports its fault without it."""

_RANK_0_LEADS_S: Final = 1.0
"""How long the others hold a report back: an error that all of them meet is rank 0's to say."""

FAULT_STAYS_S: Final = 1.0
"""How long a process lives on after its report: its launcher may keep the store, which then ends with it."""

_FOLLOW_AFTER_S: Final = 1.5
"""How long the others live on: the launcher calls the process that ended first the root cause."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """Why a run ends.

    `machine` numbers the launchers. `message` is what its process has printed; empty after an interruption.
    """

    rank: int
    machine: int
    exit_code: int
    message: str


class _Watch(threading.Thread):
    """Looks for the faults of others."""

    def __init__(self) -> None:
        super().__init__(name="rank faults", daemon=True)
        self.must_stop = threading.Event()

    def run(self) -> None:
        key = _key()
        try:
            # Where the first process keeps the store, it is not there yet.
            store = _connect(timeout_s=3600)
            while not self.must_stop.wait(_LOOK_EVERY_S):
                if store.check([key]):
                    fault = _read(store.get(key))
                    if fault.rank != _number("RANK"):
                        end_after(fault)
        except RuntimeError:
            return  # the store has gone with its launcher: nothing will be heard from there any more


_watch: _Watch | None = None
_is_ending = threading.Lock()


def watch() -> None:
    """From now on, this process ends when another one of its run reports a fault."""
    global _watch
    if _has_store() and _watch is None:
        _watch = _Watch()
        _watch.start()


def stop_watching() -> None:
    """A thread that still runs while the interpreter ends may abort it."""
    global _watch
    if _watch is not None:
        _watch.must_stop.set()
        _watch.join(timeout=2 * _LOOK_EVERY_S)
        _watch = None


def report(exit_code: int, message: str) -> Fault:
    """Tell all processes that this one fails.

    Returns:
        The fault that the run ends with: this one, or that of another process which came first.
    """
    own = Fault(_number("RANK"), _number("GROUP_RANK"), exit_code, message)
    if not _has_store():
        return own
    try:
        store = _connect(_CONNECT_S)
        if own.rank > 0:
            time.sleep(_RANK_0_LEADS_S)
        first = store.compare_set(_key(), "", json.dumps(dataclasses.asdict(own)))
    except RuntimeError:
        return own
    return _read(first)


def end_after(fault: Fault) -> NoReturn:
    """End this process because another one has failed, and say so if that was on another machine."""
    if _is_ending.acquire(blocking=False):  # whoever comes second waits here for the end
        if fault.message and fault.machine != _number("GROUP_RANK") and _number("LOCAL_RANK") == 0:
            message = f"stopped by rank {fault.rank}, on another machine:\n{fault.message}"
            print(message, file=sys.stderr, flush=True)
        time.sleep(_FOLLOW_AFTER_S)
        os._exit(fault.exit_code)
    time.sleep(10 * _FOLLOW_AFTER_S)
    os._exit(fault.exit_code)


def _key() -> str:
    """Where the fault stands; a launcher that starts the processes again keeps its store."""
    return f"vietst/fault-{_number('TORCHELASTIC_RESTART_COUNT')}"


def _has_store() -> bool:
    return _number("WORLD_SIZE") > 1 and "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ


def _connect(timeout_s: float) -> Any:
    """A connection of its own: that of the process group is busy while a collective is set up."""
    from torch.distributed import TCPStore

    return TCPStore(
        os.environ["MASTER_ADDR"],
        _number("MASTER_PORT"),
        is_master=False,
        timeout=timedelta(seconds=timeout_s),
        wait_for_workers=False,
    )


def _read(value: bytes) -> Fault:
    return Fault(**json.loads(value))


def _number(variable: str) -> int:
    """A number that the launcher has set in the environment; 0 without a launcher."""
    return int(os.environ.get(variable, "0"))
