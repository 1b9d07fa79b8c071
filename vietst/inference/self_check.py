"""The clip by which copies of a model are recognized: what it says about it is recorded after training.

With it goes a digest of the vocabulary, of which one clip shows few tokens.

The clip is synthetic speech (espeak-ng; `tests/inference/test_self_check.py` makes it again), the same for
all models, so that nobody's voice is published. It is recorded on the CPU in float32, which everybody has,
and in the full window, which is what other software gives a Whisper.
"""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Final

import torch

from vietst.environment import package_versions
from vietst.inference.results import SpeechResult
from vietst.inference.translator import SpeechTranslator
from vietst.models.architectures import ARCHITECTURES

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
    vocabulary_digest: str | None = None
    """See `vocabulary_digest`. None: recorded before there was one."""


def record_self_check(folder: Path) -> None:
    """Have the model in a folder speak, and write `self_check/` there: the clip and what was said.

    Raises:
        VietstError: there is no model that can be loaded.
    """
    translator = SpeechTranslator.from_pretrained(folder, device="cpu", dtype=torch.float32, context="full")
    processor = ARCHITECTURES[translator.model_type].load_processor(str(folder))
    expected = Expected(
        tasks=said_about(translator(CLIP)),
        device="cpu",
        dtype="float32",
        versions=package_versions(),
        vocabulary_digest=vocabulary_digest(processor.tokenizer),
    )
    target = folder / FOLDER
    target.mkdir(exist_ok=True)
    shutil.copyfile(CLIP, target / CLIP_NAME)
    text = json.dumps(dataclasses.asdict(expected), indent=2, ensure_ascii=False)
    (target / EXPECTED_NAME).write_text(text + "\n", encoding="utf-8", newline="\n")


def vocabulary_digest(tokenizer: Any) -> str:
    """What tells a vocabulary from all others: which token each id stands for, added and special ones too.

    Of the tokenizer as it was loaded: versions of transformers write the same one into other files.
    """
    tokens = sorted((token_id, token) for token, token_id in tokenizer.get_vocab().items())
    return f"sha256:{hashlib.sha256(json.dumps(tokens).encode()).hexdigest()}"


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
    """What was recorded in a folder; None: nothing was. Keys of later versions are left unread.

    Raises:
        ValueError, TypeError: it cannot be understood.
    """
    path = folder / FOLDER / EXPECTED_NAME
    if not path.is_file():
        return None
    recorded = json.loads(path.read_text(encoding="utf-8"))
    known = [field.name for field in dataclasses.fields(Expected)]
    return Expected(**{name: recorded[name] for name in known if name in recorded})
