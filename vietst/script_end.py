"""How scripts end: by a mistake of the user, a fault, an interruption or a request to stop; alone or not.

Nothing heavy is imported at module level, so a script's `--help` and its argument errors stay instant.
"""

import atexit
import contextlib
import faulthandler
import io
import logging
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Final, NoReturn

from vietst import rank_faults
from vietst.errors import VietstError, error_in_text
from vietst.full_disk import full_disk_error, is_full_disk
from vietst.full_memory import full_memory_error, is_out_of_memory
from vietst.runtime import rank, rank_prefix, world_size
from vietst.unusable_name import unusable_name_error

EXIT_USER_ERROR: Final = 2
"""Exit code of a script whose user can mend what went wrong."""

EXIT_INTERRUPTED: Final = 130
"""Exit code after Ctrl-C (128 + SIGINT, as shells have it)."""

EXIT_UNREAD: Final = 141
"""Exit code where nobody reads the output any more, as of `… | head` (128 + SIGPIPE)."""

EXIT_PREEMPTED: Final = 75
"""Exit code of a script that stopped because it was asked to, and wants to be started again (EX_TEMPFAIL)."""

STOP_SIGNALS: Final = (signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
"""Signals that ask a training to save and stop. Windows has no SIGUSR1."""

EXIT_FAULT: Final = 1
"""Exit code after a fault of the program, as Python has it."""

_LOST_CONNECTION: Final = re.compile(
    r"connection (closed|reset) by peer|broken pipe|remote process exit|communicator was aborted",
    re.IGNORECASE,
)
"""What gloo, NCCL and the store say when a process at the other end has gone."""

_OTHERS_SPEAK_FIRST_S: Final = 5.0
"""How long a process that lost a connection waits for the one that broke it to say why, or for the launcher,
which ends it."""


class Preempted(Exception):  # noqa: N818 - nothing is wrong
    """A script was asked to stop, and can go on from where it is. It says how."""


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main` and end the process as a user expects.

    A `VietstError`, and full disks, full memory and names that no file can have, if nobody has told, become
    `error: …` on stderr and exit code 2, an interruption a quiet exit code 130, output that nobody reads any
    more a quiet 141, and `Preempted` its message and exit code 75.
    Any other exception is a fault of the program and keeps its traceback. With several processes, the first
    error of any of them ends them all, and is printed once (`vietst.rank_faults`).
    """
    if world_size() > 1:
        atexit.register(_skip_interpreters_end)  # before those of `main`, so that it is called after them
    if sys.stderr is None:  # closed from the start (2>&-); what is said to it must not go to the output
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    faulthandler.enable()  # a damaged file that is mapped into memory ends a process by a signal
    # Else torch's threads wait for each other by spinning 30 times as long: on cores that are shared with
    # other processes a small model took more than ten times the time of its CPU. Not spinning at all made a
    # small training on idle cores a fifth slower. libgomp reads it when torch is imported.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As stderr: on Windows a file or pipe may lack Vietnamese letters, and that is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
        if sys.stdout is not None:  # as it is where it was closed from the start (>&-)
            sys.stdout.flush()
        leave_process_group()
        _ended_well_with(0)
    except Preempted as stop:
        leave_process_group()  # all ranks come here together
        if rank() == 0:
            print(stop, file=sys.stderr, flush=True)
        _ended_well_with(EXIT_PREEMPTED)
        sys.exit(EXIT_PREEMPTED)
    except KeyboardInterrupt:
        _end_process(EXIT_INTERRUPTED, message="")
    except VietstError as error:
        _end_process(EXIT_USER_ERROR, message=f"error: {rank_prefix()}{error}")
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
            _end_process(EXIT_UNREAD, message="")
        users_error = error_in_text(str(error))  # of a DataLoader's worker process
        if users_error is None and is_full_disk(error):
            name = getattr(error, "filename", None)
            users_error = full_disk_error(error, name or "a file that this command writes")
        if users_error is None and is_out_of_memory(error):
            users_error = full_memory_error(error)
        users_error = users_error or unusable_name_error(error)
        if users_error is not None:
            _end_process(EXIT_USER_ERROR, message=f"error: {rank_prefix()}{users_error}")
        if world_size() == 1:
            raise
        message = f"{rank_prefix()}{traceback.format_exc().rstrip()}"
        if _LOST_CONNECTION.search(str(error)):
            time.sleep(_OTHERS_SPEAK_FIRST_S)
            message = (
                f"error: {rank_prefix()}another process has ended without a word; its launcher says how\n"
                f"  {error}"
            )
        _end_process(EXIT_FAULT, message)


def _nobody_reads() -> bool:
    """Whether it is the script's own output that broke, and no connection to another process."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return True
    return False


_exit_code: int | None = None
"""Of a script that has done its work; None: not yet."""


def _ended_well_with(exit_code: int) -> None:
    global _exit_code
    _exit_code = exit_code


def _skip_interpreters_end() -> None:
    """End a process that has done its work before Python takes its objects apart.

    DeepSpeed keeps process groups of its own. Their threads may want the interpreter while it ends, and then
    abort it: on a busy machine, four of 24 finished trainings with ZeRO-3 were called failed for it. What
    asked to be called at the end since `run_script` began has been called by then; what asked before, in a
    program around the script, is not called.
    """
    if _exit_code is not None:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or None
                stream.flush()
        os._exit(_exit_code)


def leave_process_group() -> None:
    """End the communication between processes, if there was any; their faults no longer matter to this one.

    A process that exits without it may be killed by its own communication threads ("terminate called without
    an active exception"), and the launcher then calls a finished training failed.
    """
    rank_faults.stop_watching()
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _end_process(exit_code: int, message: str) -> NoReturn:
    """Print `message` as the last thing this process says, unless another one fails already, and exit."""
    logging.shutdown()
    with contextlib.suppress(OSError, ValueError):  # a closed stdout must not hide the message
        sys.stdout.flush()
    if world_size() == 1:
        leave_process_group()
        _print_error(message)
        sys.exit(exit_code)
    fault = rank_faults.report(exit_code, message)
    if fault.rank != rank():
        rank_faults.end_after(fault)
    _print_error(message)
    time.sleep(rank_faults.FAULT_STAYS_S)
    # A normal exit would wait for the other ranks, or have the process group complain below our message. Data
    # loaders' workers see within seconds that their process has gone.
    os._exit(exit_code)


def _print_error(message: str) -> None:
    if message:
        print(message, file=sys.stderr, flush=True)
