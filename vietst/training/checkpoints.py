"""Which checkpoints a run has, and the one to resume from: complete, with everything that resuming reads.

A checkpoint of this package appears under its name when all of it is on the disk (see
`vietst.training.checkpoint_writing`). Those of plain transformers may be resumed from too.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vietst.errors import CheckpointError

if TYPE_CHECKING:
    from vietst.models.architectures import Architecture

_CHECKPOINT_NAME = re.compile(r"checkpoint-(\d+)")
_STATE_FILE = "trainer_state.json"
_RANDOM_STATES = ("rng_state.pth", "rng_state_*.pth")
# DeepSpeed keeps weights and optimizer in one folder, whatever else there is; FSDP has names of its own.
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model_fsdp.bin",
    "pytorch_model_fsdp_0",
    "global_step*",
)
_OPTIMIZER = ("optimizer.pt", "optimizer.bin", "optimizer_0", "global_step*")

RECORD_FILE = "run_record.json"
"""In a checkpoint of this package: the run that it belongs to, and the names and sizes of its files."""

LATEST = "latest"
"""What `--resume` without a value means."""

AUTO = "auto"
"""`--resume auto`: `LATEST` where there is a checkpoint, else a new training; for what starts runs again."""


def read_record(checkpoint: Path) -> dict[str, object] | None:
    """What `RECORD_FILE` holds; None where there is none, or none that can be read."""
    try:
        record = json.loads((checkpoint / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def read_state(checkpoint: Path) -> dict[str, Any]:
    """transformers' own `trainer_state.json`.

    Raises:
        OSError, ValueError: it is not there, or cut off.
    """
    state = json.loads((checkpoint / _STATE_FILE).read_text(encoding="utf-8"))
    if not isinstance(state, dict):
        raise ValueError(f"{checkpoint / _STATE_FILE} holds no state")
    return state


def files_of(folder: Path) -> dict[str, int]:
    """Sizes in bytes of all files below a folder, by their path in it."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def missing_parts(checkpoint: Path) -> list[str]:
    """What a checkpoint lacks for resuming; empty when it is complete."""
    if (record := read_record(checkpoint)) is not None and isinstance(files := record.get("files"), dict):
        found = files_of(checkpoint)
        return [name for name, size in files.items() if found.get(name) != size]

    def has_one_of(patterns: Iterable[str]) -> bool:
        return any(any(checkpoint.glob(pattern)) for pattern in patterns)

    needed = {
        "model.safetensors": _WEIGHTS,
        "optimizer.pt": _OPTIMIZER,
        "scheduler.pt": ("scheduler.pt",),
        "rng_state.pth": _RANDOM_STATES,
    }
    missing = [name for name, patterns in needed.items() if not has_one_of(patterns)]
    try:
        # transformers writes it after those, so a checkpoint that was cut off lacks at least this
        read_state(checkpoint)
    except (OSError, ValueError):
        missing.append(_STATE_FILE)
    return missing


def step_of(checkpoint: Path) -> int | None:
    """The optimizer step after which a checkpoint was saved, by its name; None for other folders."""
    match = _CHECKPOINT_NAME.fullmatch(checkpoint.name)
    return int(match.group(1)) if match else None


def complete_checkpoints(run_dir: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first (by step)."""
    numbered = [
        (step, path)
        for path in run_dir.glob("checkpoint-*")
        if (step := step_of(path)) is not None and not missing_parts(path)
    ]
    return [path for _, path in sorted(numbered)]


def checkpoint_to_start_from(run_dir: Path, resume: str | None) -> Path | None:
    """The checkpoint that a training goes on from; None for a new one.

    Args:
        resume: what the command line says: a path, `LATEST`, `AUTO`, or None for a new training.

    Raises:
        CheckpointError: none there, or not complete; or the training would overwrite checkpoints of another.
    """
    existing = complete_checkpoints(run_dir)
    if resume is None and existing:
        raise CheckpointError(
            where=f"run folder {run_dir}",
            rule="a new training starts in a folder without checkpoints, so that none is overwritten",
            found=f"{len(existing)} checkpoint(s), the newest {existing[-1].name}",
            do="go on with --resume, choose another folder with output.dir=…, or delete this one",
        )
    if resume is None or (resume == AUTO and not existing):
        return None
    checkpoint = _find_checkpoint(run_dir, LATEST if resume == AUTO else resume)
    later = [path.name for path in existing if (step_of(path) or 0) > (step_of(checkpoint) or 0)]
    if later:
        raise CheckpointError(
            where=f"--resume {resume}, in run folder {run_dir}",
            rule="a run folder holds the checkpoints of one training; this one would overwrite later ones",
            found=f"{', '.join(later)} after {checkpoint.name}",
            do="choose another folder with output.dir=…, or delete the later checkpoints",
        )
    return checkpoint


def _find_checkpoint(run_dir: Path, resume: str) -> Path:
    """The checkpoint that `--resume` means: a path, or the newest complete one of the run (`LATEST`).

    Raises:
        CheckpointError: none there, or not complete.
    """
    if resume == LATEST:
        found = complete_checkpoints(run_dir)
        if not found:
            raise CheckpointError(
                where=f"--resume, in {run_dir}",
                rule="a complete checkpoint-N folder of an earlier training",
                found="none",
                do="start without --resume, or with --resume auto, which starts anew where there is none; or "
                "name the checkpoint: --resume PATH",
            )
        return found[-1]
    checkpoint = Path(resume)
    if not checkpoint.is_dir():
        raise CheckpointError(
            where=f"--resume {resume}",
            rule="a checkpoint folder",
            found="no such folder",
            do=_what_there_is(run_dir),
        )
    missing = missing_parts(checkpoint)
    if missing:
        raise CheckpointError(
            where=f"--resume {resume}",
            rule="a complete checkpoint",
            found=f"{', '.join(missing)} missing or damaged",
            do=_what_there_is(run_dir),
        )
    return checkpoint


def _what_there_is(run_dir: Path) -> str:
    names = [path.name for path in complete_checkpoints(run_dir)]
    if not names:
        return f"start without --resume: {run_dir} holds no complete checkpoint"
    return f"name one of {', '.join(names)} in {run_dir}, or --resume alone for the newest"


def require_same_tokenizer(checkpoint: Path, architecture: "Architecture", tokenizer: Any) -> None:
    """Refuse to go on from a checkpoint with the tokenizer of another base model: its ids mean other pieces.

    Base models of which a tokenizer was learned or trimmed may have been made anew since, from other texts.

    Raises:
        CheckpointError: the checkpoint's tokenizer is not `tokenizer`.
    """
    known, given = architecture.load_processor(str(checkpoint)).tokenizer.get_vocab(), tokenizer.get_vocab()
    if known != given:
        raise CheckpointError(
            where=f"checkpoint {checkpoint}",
            rule="a run goes on with the tokenizer that it began with",
            found=f"another one at {tokenizer.name_or_path} ({len(given):,} tokens; the checkpoint has "
            f"{len(known):,}): the base model was made anew since",
            do="bring back the base model that the run began with, or start a new run: output.dir=…",
        )
