"""The clip by which copies of a model are recognized: what it says about it is recorded after training.

The clip is synthetic speech (espeak-ng; `tests/inference/test_self_check.py` makes it again), the same for
all models, so that nobody's voice is published. It is recorded on the CPU in float32, which everybody has,
and in the full window, which is what other software gives a Whisper.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, Final

import torch

from vietst.environment import package_versions
from vietst.inference.results import SpeechResult
from vietst.inference.translator import SpeechTranslator

CLIP: Final = Path(__file__).with_name("self_check.flac")
"""2.9 s, 16 kHz: "mình sẽ fix cái bug này trước deadline"."""

FOLDER: Final = "self_check"
CLIP_NAME: Final = "clip.flac"
EXPECTED_NAME: Final = "expected.json"


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a model said about its clip at training time."""

    tasks: dict[str, dict[str, Any]]
    """Task → `text`, `num_tokens` (end token included), `log_probability` (natural, of all tokens)."""
    device: str
    dtype: str
    versions: dict[str, str]
    """Package → version."""


def record_self_check(folder: Path) -> None:
    """Have the model in a folder speak, and write `self_check/` there: the clip and what was said.

    Raises:
        VietstError: there is no model that can be loaded.
    """
    translator = SpeechTranslator.from_pretrained(folder, device="cpu", dtype=torch.float32, context="full")
    expected = Expected(
        tasks=said_about(translator(CLIP)),
        device="cpu",
        dtype="float32",
        versions=package_versions(),
    )
    target = folder / FOLDER
    target.mkdir(exist_ok=True)
    shutil.copyfile(CLIP, target / CLIP_NAME)
    text = json.dumps(dataclasses.asdict(expected), indent=2, ensure_ascii=False)
    (target / EXPECTED_NAME).write_text(text + "\n", encoding="utf-8", newline="\n")


def said_about(result: SpeechResult) -> dict[str, dict[str, Any]]:
    """A result in the form of `Expected.tasks`."""
    return {
        task: {
            "text": result.text(task),
            "num_tokens": sum(segment.said[task].num_tokens for segment in result.segments),
            "log_probability": sum(segment.said[task].log_probability for segment in result.segments),
        }
        for task in result.tasks
    }


def read_expected(folder: Path) -> Expected | None:
    """What was recorded in a folder; None: nothing was.

    Raises:
        ValueError, TypeError: it cannot be understood.
    """
    path = folder / FOLDER / EXPECTED_NAME
    return Expected(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
