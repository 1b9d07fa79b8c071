"""Finding the checkpoint to resume from: a complete one, with everything that resuming reads."""

import json
import re
import types
from pathlib import Path
from typing import Any

from vietst.errors import CheckpointError

_CHECKPOINT_NAME = re.compile(r"checkpoint-(\d+)")
_WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
LATEST = "latest"
"""What `--resume` without a value means."""


def missing_parts(checkpoint: Path) -> list[str]:
    """What a checkpoint lacks for resuming; empty when it is complete.

    transformers writes `trainer_state.json` last, so a checkpoint cut off by a kill lacks at least that.
    """
    missing = []
    if not any((checkpoint / name).is_file() for name in _WEIGHT_FILES):
        missing.append("model.safetensors")
    if not (checkpoint / "optimizer.pt").is_file() and not any(checkpoint.glob("global_step*")):
        missing.append("optimizer.pt")
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        missing.append("trainer_state.json")
    return missing


def complete_checkpoints(run_dir: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first (by step)."""
    numbered = [
        (int(match.group(1)), path)
        for path in run_dir.glob("checkpoint-*")
        if (match := _CHECKPOINT_NAME.fullmatch(path.name)) and not missing_parts(path)
    ]
    return [path for _, path in sorted(numbered)]


def find_checkpoint(run_dir: Path, resume: str) -> Path:
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
                do="start without --resume, or name the checkpoint: --resume PATH",
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


def require_same_tokenizer(checkpoint: Path, architecture: types.ModuleType, tokenizer: Any) -> None:
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
