"""Does an exported model say the same, and how much faster? Greedy on both sides, one clip at a time."""

import dataclasses
import difflib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from vietst.constants import SAMPLE_RATE_HZ, TASKS
from vietst.data.features import InputKind, input_kind_of
from vietst.evaluation.decode import feature_row
from vietst.inference.audio_input import waveform_blocks
from vietst.inference.self_check import CLIP
from vietst.models import whisper, whisper_generation, whisper_inputs
from vietst.models.model_record import read_model_record
from vietst.runtime import get_logger

logger = get_logger(__name__)

Generate = Callable[[np.ndarray, str], list[int]]
"""(waveform float32 [num_samples] at 16 kHz, task) → token ids, without prompt and end token."""

WINDOW_S: Final = 30
"""What is beyond, each side would cut into windows in its own way."""

MAX_TOKENS: Final = 224
"""Of a clip: CTranslate2 stops at half of the 448 decoder positions, as openai's Whisper does."""


@dataclasses.dataclass(frozen=True)
class Parity:
    """One task on all clips."""

    task: str
    num_tokens: int
    """That the model generated here."""
    num_exported_tokens: int
    num_equal: int
    """Tokens that both have, in the same order."""
    compute_s: float
    exported_compute_s: float

    @property
    def agreement(self) -> float:
        """Share of equal tokens, from 0 to 1."""
        longest = max(self.num_tokens, self.num_exported_tokens)
        return self.num_equal / longest if longest else 1.0

    @property
    def speed_ratio(self) -> float:
        """How many times faster the export is."""
        return self.compute_s / self.exported_compute_s


def read_recordings(paths: Sequence[Path]) -> list[np.ndarray]:
    """The first 30 s of recordings of any format; of the clip of `self_check` where there are none.

    Returns:
        float32 [num_samples] at 16 kHz each.

    Raises:
        AudioError: one that cannot be read.
    """
    return [_beginning(path) for path in paths or [CLIP]]


def _beginning(path: Path) -> np.ndarray:
    blocks: list[np.ndarray] = []
    for block in waveform_blocks(path):
        blocks.append(block)
        if sum(map(len, blocks)) >= WINDOW_S * SAMPLE_RATE_HZ:
            break
    return np.concatenate(blocks)[: WINDOW_S * SAMPLE_RATE_HZ]


def compare(name_or_path: str, exported: Path, waveforms: Sequence[np.ndarray]) -> list[Parity]:
    """Both models on all clips, each task from the waveform on, on the same device and number of threads.

    Args:
        waveforms: from `read_recordings`.
    """
    record = read_model_record(name_or_path)
    tasks, language = (record.tasks, record.language) if record else (TASKS, "vi")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def warmed(generate: Generate) -> Generate:
        generate(waveforms[0], tasks[0])  # what is slow only once is not measured
        return generate

    try:
        theirs = warmed(_theirs(exported, device, language))
    except RuntimeError as error:
        # CTranslate2 wants CUDA 12's libraries, and PyTorch's builds for CUDA 13 bring others.
        if device.type == "cpu":
            raise
        logger.warning("compared on the CPU, since CTranslate2 cannot use the GPU: %s", error)
        device = torch.device("cpu")
        theirs = warmed(_theirs(exported, device, language))
    ours = warmed(_ours(name_or_path, device, language))
    return [_compare_task(task, ours, theirs, waveforms) for task in tasks]


def _compare_task(task: str, ours: Generate, theirs: Generate, clips: Sequence[np.ndarray]) -> Parity:
    tokens, exported_tokens, compute_s, exported_compute_s = [], [], 0.0, 0.0
    for clip in clips:
        started = time.perf_counter()
        tokens.append(ours(clip, task))
        turned = time.perf_counter()
        exported_tokens.append(theirs(clip, task))
        compute_s += turned - started
        exported_compute_s += time.perf_counter() - turned
    return Parity(
        task=task,
        num_tokens=sum(map(len, tokens)),
        num_exported_tokens=sum(map(len, exported_tokens)),
        num_equal=sum(map(num_equal_tokens, tokens, exported_tokens)),
        compute_s=compute_s,
        exported_compute_s=exported_compute_s,
    )


def num_equal_tokens(tokens: Sequence[int], others: Sequence[int]) -> int:
    """Tokens in blocks that both have, in the same order (difflib's matching)."""
    matcher = difflib.SequenceMatcher(None, list(tokens), list(others), autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks())


def _ours(name_or_path: str, device: torch.device, language: str) -> Generate:
    processor = whisper_inputs.load_processor(name_or_path)
    input_kind: InputKind = input_kind_of(processor.feature_extractor)
    model = whisper.load_model(name_or_path).to(device).eval()
    tokenizer = processor.tokenizer

    def generate(clip: np.ndarray, task: str) -> list[int]:
        inputs = whisper_inputs.input_batch([feature_row(clip, input_kind)], input_kind)
        states = whisper_generation.encode(model, inputs)
        (generated,) = whisper_generation.generate(
            model, tokenizer, states, (task,), language=language, max_new_tokens=MAX_TOKENS
        ).tolist()
        end = tokenizer.eos_token_id
        return generated[: generated.index(end)] if end in generated else generated

    return generate


def _theirs(exported: Path, device: torch.device, language: str) -> Generate:
    from faster_whisper import WhisperModel

    model: Any = WhisperModel(str(exported), device=device.type, cpu_threads=torch.get_num_threads())

    def generate(clip: np.ndarray, task: str) -> list[int]:
        segments, _ = model.transcribe(
            padded(clip),
            language=language,
            task=task,
            beam_size=1,
            # No second try at a higher temperature, and nothing is left out as silence.
            temperature=0.0,
            **dict.fromkeys(("no_speech_threshold", "log_prob_threshold", "compression_ratio_threshold")),
            **TRANSCRIBE_OPTIONS,
        )
        end = model.hf_tokenizer.token_to_id("<|endoftext|>")
        return [token for segment in segments for token in segment.tokens if token != end]

    return generate


TRANSCRIBE_OPTIONS: Final = {
    "without_timestamps": True,  # the models are trained without
    "suppress_tokens": [],  # by default faster-whisper forbids symbols that transcripts may hold
    "condition_on_previous_text": False,  # nor are they trained with the text before
}
"""How faster-whisper has to be called for models that are trained here."""


def padded(waveform: np.ndarray) -> np.ndarray:
    """Silence up to whole windows: faster-whisper would fill them with features (0) that sound otherwise."""
    return np.pad(waveform, (0, -len(waveform) % (WINDOW_S * SAMPLE_RATE_HZ)))


def format_parity(results: Sequence[Parity]) -> str:
    """The table that the script prints."""
    lines = [f"{'task':<12} {'equal tokens':>12} {'tokens':>8} {'here':>9} {'export':>9} {'speed':>8}"]
    for result in results:
        lines.append(
            f"{result.task:<12} {result.agreement:>11.1%} {result.num_tokens:>8} {result.compute_s:>7.2f} s "
            f"{result.exported_compute_s:>7.2f} s {result.speed_ratio:>6.1f} ×"
        )
    return "\n".join(lines)
