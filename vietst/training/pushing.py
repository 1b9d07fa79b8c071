"""Pushing models to the Hub while they train, without the training ever waiting for the Hub.

What is to go up is first put aside, as a snapshot: links to a finished checkpoint's files, which stay when
the checkpoint is deleted. A thread then has one process after the other push the newest snapshot, and tries
again as long as the Hub is away. A snapshot that is still waiting when a newer one comes is dropped.
"""

import contextlib
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vietst.config_schema import HubSection
from vietst.errors import VietstError, error_in_text
from vietst.hub.push_job import start_push
from vietst.hub.release import take_snapshot
from vietst.runtime import get_logger, rank
from vietst.script_end import EXIT_USER_ERROR
from vietst.training.checkpoints import read_state

SNAPSHOTS: Final = "hub_snapshots"
"""Below the run folder, while there is something to push."""

_FIRST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 300.0
"""Between two attempts; each pause is twice the one before."""

_CHECK_S: Final = 60.0
"""How long the start of a training waits for the Hub to say whether it takes pushes."""

logger = get_logger(__name__)


@dataclass(frozen=True)
class _Outcome:
    """How a push ended: the model's address, or why not, and whether trying again makes sense."""

    address: str | None
    reason: str = ""
    error: VietstError | None = None
    try_again: bool = False


class ModelPusher:
    """Pushes a run's models from rank 0, in the background.

    Args:
        run_dir: the run folder.
        hub: where to.
    """

    def __init__(self, run_dir: Path, hub: HubSection) -> None:
        self.run_dir, self.hub = run_dir, hub
        self._snapshots = run_dir / SNAPSHOTS
        shutil.rmtree(self._snapshots, ignore_errors=True)  # of a training that was killed
        self._news = threading.Condition()
        self._waiting: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._not_up: tuple[str, str] | None = None
        """Name of the newest snapshot, and why it is not on the Hub; None when it is."""
        self._is_ending = self._has_stopped = False
        self._thread = threading.Thread(target=self._push_all, name="model pusher", daemon=True)

    def start(self) -> None:
        """See whether the repository takes pushes, and start.

        A Hub that is away or slow stops no training: it is only said.

        Raises:
            HubError: what will not become better by waiting: no token, no right to write there …
        """
        outcome = self._run(None, timeout_s=_CHECK_S)
        if outcome.error is not None and not outcome.try_again:
            raise outcome.error
        if outcome.address is None:
            logger.warning("no push now; training begins, and tries again later:\n%s", outcome.reason)
        else:
            logger.info("models go up to %s (hub.push_when: %s)", outcome.address, self.hub.push_when)
        self._thread.start()

    def add(self, model_dir: Path, name: str) -> None:
        """Have a complete model folder pushed, as it is now.

        Args:
            name: of the snapshot, for the log.
        """
        snapshot = self._snapshots / name
        with self._news:
            self._not_up = (name, "under way")
        try:
            take_snapshot(model_dir, snapshot)
        except (VietstError, OSError) as error:
            self._note(name, str(error))  # no reason to end a training
            return
        with self._news:
            if self._waiting is not None:
                logger.info("%s is not pushed: %s is newer", self._waiting.name, name)
                shutil.rmtree(self._waiting, ignore_errors=True)
            self._waiting = snapshot
            self._news.notify()

    def add_earlier(self, checkpoint: Path) -> None:
        """Have pushed what the training that goes on from a checkpoint may not have brought up."""
        if self.hub.push_when == "best":
            checkpoint = self.run_dir / f"checkpoint-{read_state(checkpoint).get('best_global_step')}"
        if self.hub.push_when != "end" and checkpoint.is_dir():
            self.add(checkpoint, checkpoint.name)

    def finish(self) -> None:
        """Wait until all is up, but not longer than `hub.wait_s`; then say what is not."""
        with self._news:
            self._is_ending = True
            self._news.notify()
        if (not_up := self._not_up) is not None:  # the thread may say at any moment that it is up
            logger.info("waiting for %s to go up, at most %g s", not_up[0], self.hub.wait_s)
        try:
            self._thread.join(self.hub.wait_s)
        finally:
            self.stop()
        if self._not_up is not None:
            logger.warning(
                "not on the Hub yet: %s\n%s\nThis brings it up:\n  %s", *self._not_up, self._push_command()
            )

    def give_up(self) -> None:
        """For a training that ends before its end: `stop`, and say what is not up."""
        self.stop()
        if self._not_up is not None:
            logger.warning("not on the Hub yet: %s; going on with --resume pushes it", self._not_up[0])

    def stop(self) -> None:
        """End what is going up; what has arrived of it is not sent again. Nothing half is on the Hub."""
        with self._news:
            self._has_stopped = self._is_ending = True
            self._news.notify()
            if self._process is not None:
                self._process.kill()
        self._thread.join()
        shutil.rmtree(self._snapshots, ignore_errors=True)

    def _push_command(self) -> str:
        hub = self.hub
        command = ["python", "scripts/push_to_hub.py", "--model_dir", str(self.run_dir), "--repo_id"]
        command += [str(hub.repo_id), "--private" if hub.private else "--public"]
        return shlex.join([*command, *(["--revision", hub.revision] if hub.revision else [])])

    # --- in the thread -------------------------------------------------------------------------------

    def _push_all(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while (snapshot := self._next_snapshot()) is not None:
            outcome = self._run(snapshot)
            if outcome.address is not None:
                self._note_success(snapshot.name, outcome.address)
            elif self._has_stopped:
                return
            else:
                self._note(snapshot.name, outcome.reason)
            if outcome.try_again:
                self._pause(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                self._put_back(snapshot)
            else:
                pause_s = _FIRST_PAUSE_S
                shutil.rmtree(snapshot, ignore_errors=True)

    def _next_snapshot(self) -> Path | None:
        """The one that waits; None when there is none, and none will come."""
        with self._news:
            self._news.wait_for(lambda: self._waiting is not None or self._is_ending)
            snapshot, self._waiting = self._waiting, None
            return None if self._has_stopped else snapshot

    def _put_back(self, snapshot: Path) -> None:
        with self._news:
            if self._waiting is None:
                self._waiting = snapshot
            else:
                shutil.rmtree(snapshot, ignore_errors=True)

    def _pause(self, seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._has_stopped or self._waiting is not None, seconds)

    def _run(self, snapshot: Path | None, timeout_s: float | None = None) -> _Outcome:
        """Push, or without a snapshot look at the repository, in a process that `stop` can end."""
        try:
            return self._run_process(snapshot, timeout_s)
        except OSError as error:  # no room for what it says, or no memory for another process
            return _Outcome(None, str(error), try_again=True)

    def _run_process(self, snapshot: Path | None, timeout_s: float | None) -> _Outcome:
        with tempfile.TemporaryFile() as output:
            with self._news:
                if self._has_stopped:
                    return _Outcome(None, "stopped")
                self._process = process = start_push(self.hub, snapshot, output)
            try:
                code = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return _Outcome(None, f"no answer within {timeout_s:g} s", try_again=True)
            finally:
                assert process.stdin is not None
                process.stdin.close()
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if code == 0:
            return _Outcome(said.splitlines()[-1])
        # What is neither away nor wrong is a fault of the process: one that was killed, for instance.
        said = said or f"the process that pushes ended with code {code}"
        error = error_in_text(said)
        reason = str(error) if error is not None else said
        return _Outcome(None, reason, error, try_again=code != EXIT_USER_ERROR)

    def _note(self, name: str, reason: str) -> None:
        logger.warning("%s is not on the Hub yet:\n%s", name, reason)
        with self._news:
            if self._not_up is not None and self._not_up[0] == name:
                self._not_up = (name, reason)

    def _note_success(self, name: str, address: str) -> None:
        logger.info("%s is on the Hub: %s", name, address)
        with self._news:
            if self._not_up is not None and self._not_up[0] == name:
                self._not_up = None


@contextlib.contextmanager
def pushing(run_dir: Path, hub: HubSection) -> Iterator[ModelPusher | None]:
    """A pusher for the training inside the block; at the end it is waited for. None where nothing is pushed.

    Raises:
        HubError: before the block begins, see `ModelPusher.start`.
    """
    if not hub.pushes or rank() > 0:
        yield None
        return
    pusher = ModelPusher(run_dir, hub)
    pusher.start()
    try:
        yield pusher
    except BaseException:
        pusher.give_up()
        raise
    pusher.finish()


class PushCallback(TrainerCallback):
    """Hands checkpoints to the pusher as soon as they are complete, on rank 0."""

    def __init__(self, pusher: ModelPusher) -> None:
        self.pusher = pusher

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        when = self.pusher.hub.push_when
        if when == "save" or (when == "best" and state.best_global_step == state.global_step):
            name = f"checkpoint-{state.global_step}"
            self.pusher.add(self.pusher.run_dir / name, name)
