"""From audio files to texts: a whole split is decoded and timed, with one encoder pass for all tasks."""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vietst.constants import IGNORE_INDEX, TARGET_COLUMN
from vietst.data.audio import load_utterance
from vietst.data.audio_pieces import locator_of
from vietst.data.context import Context, ContextWindows
from vietst.data.features import InputKind, extract
from vietst.data.sources import LANGUAGE_COLUMN, SOURCE_COLUMN
from vietst.data.verified import VERIFIED_COLUMN, format_verified
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.report import Timing
from vietst.models.architectures import Architecture
from vietst.models.languages import generate_in_languages, require_languages
from vietst.text_style import AS_IS, TextStyle


def max_new_tokens(duration_s: float, tokens_per_second: float, tokens_base: int) -> int:
    """Cap on a hypothesis' tokens from its audio's length: speech has only so many tokens per second.

    It bounds repetition loops, whose cost would otherwise be the decoder's whole length.
    """
    return math.ceil(duration_s * tokens_per_second) + tokens_base


def cut_at_own_cap(generated: torch.Tensor, caps: Sequence[int], pad_token_id: int) -> torch.Tensor:
    """Pad hypotheses beyond their own caps: no text then depends on which longer clip was in its batch.

    Args:
        generated: int64 [num_hypotheses, length], generated under these caps.
        caps: tokens that each clip's hypotheses may have; the clips repeat task by task.

    Returns:
        [num_hypotheses, length].
    """
    own = torch.tensor(caps, device=generated.device).repeat(len(generated) // len(caps))
    beyond = torch.arange(generated.shape[1], device=generated.device) >= own[:, None]
    return generated.masked_fill(beyond, pad_token_id)


class TextDecoder:
    """Generated ids → texts. Ids that the tokenizer does not know are left out and counted."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.num_unknown_ids = 0

    def __call__(self, token_ids: np.ndarray | Sequence[Sequence[int]]) -> list[str]:
        """[num_hypotheses, length], padded with pad token or `IGNORE_INDEX` → as many stripped texts."""
        texts = []
        for row in np.asarray(token_ids):
            real = row[row != IGNORE_INDEX]
            known = real[(real >= 0) & (real < len(self.tokenizer))]
            self.num_unknown_ids += len(real) - len(known)
            texts.append(self.tokenizer.decode(known.tolist(), skip_special_tokens=True).strip())
        return texts


@dataclasses.dataclass(frozen=True)
class DecodingOptions:
    """How a split is decoded; `num_workers` processes read audio and compute features ahead.

    `context` are windows that a Whisper may hear clips in besides its own; `text_style` is how the model was
    taught to write, for the scores.
    """

    tasks: tuple[str, ...]
    language: str
    batch_size: int
    num_beams: int
    tokens_per_second: float
    tokens_base: int
    num_workers: int = 0
    context: ContextWindows | None = None
    text_style: TextStyle = AS_IS


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Hypotheses in the order of the rows, and what they cost."""

    predictions: list[Prediction]
    timing: Timing
    num_unknown_ids: int


class AudioRows(Dataset[dict[str, Any]]):
    """Rows of a split with their features, computed from the audio when asked for."""

    def __init__(self, rows: Sequence[dict[str, Any]], audio_root: Path, input_kind: InputKind) -> None:
        self.rows, self.audio_root, self.input_kind = rows, audio_root, input_kind

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        waveform = load_utterance(self.audio_root, row)
        return {
            "row_index": index,
            "level_dbfs": 10 * math.log10(float(np.mean(np.square(waveform, dtype=np.float64)))),
            **feature_row(waveform, self.input_kind),
        }


def feature_row(waveform: np.ndarray, input_kind: InputKind) -> dict[str, Any]:
    """What the feature cache holds of a clip, for an architecture's `input_batch`.

    Args:
        waveform: float32 [num_samples], mono, 16 kHz.
    """
    extracted = extract(waveform, input_kind)
    return {
        # The cache's precision: a model hears what it was trained on.
        "features": extracted.values.astype("<f2").tobytes(),
        "num_frames": extracted.values.shape[0],
        "pad_value": extracted.pad_value,
    }


def decode_rows(
    rows: Sequence[dict[str, Any]],
    *,
    audio_root: Path,
    input_kind: InputKind,
    architecture: Architecture,
    model: Any,
    tokenizer: Any,
    options: DecodingOptions,
) -> Decoded:
    """Decode rows of a split file, longest first, every task from one encoder pass.

    Args:
        rows: with `id`, `video_id`, `duration` (seconds), `audio_path`, `transcript`, `translation`, and
            `speaker_id`, `verified`, `data_source` and `language` (of the transcript) where they are known.
        architecture: of the model.

    Raises:
        AudioError: an audio file that cannot be read.
        ConfigError: a row's language that the model's tokenizer lacks.
    """
    durations = [float(row["duration"]) for row in rows]
    languages = [str(row.get(LANGUAGE_COLUMN) or options.language) for row in rows]
    require_languages(
        {*languages} - {options.language}, architecture, tokenizer, where="column language of the split"
    )
    context = Context.of(input_kind, options.context)
    loader = DataLoader(
        AudioRows(rows, audio_root, input_kind),
        batch_sampler=list(_batches(durations, context, options.batch_size)),
        collate_fn=list,
        num_workers=options.num_workers,
    )
    decoder = TextDecoder(tokenizer)
    texts: dict[str, list[str]] = {task: [""] * len(rows) for task in options.tasks}
    latencies_s, compute_s = [0.0] * len(rows), 0.0
    levels_dbfs = [0.0] * len(rows)
    for batch in _with_progress(loader, len(rows)):
        started = time.perf_counter()
        hypotheses = _decode_batch(
            batch,
            durations,
            languages,
            context.of_rows(batch),
            architecture,
            model,
            tokenizer,
            options,
            decoder,
        )
        elapsed_s = time.perf_counter() - started
        compute_s += elapsed_s
        for position, row in enumerate(batch):
            latencies_s[row["row_index"]] = elapsed_s
            levels_dbfs[row["row_index"]] = row["level_dbfs"]
            for task_position, task in enumerate(options.tasks):
                texts[task][row["row_index"]] = hypotheses[task_position * len(batch) + position]
    predictions = [
        Prediction(
            id=str(row["id"]),
            video_id=str(row["video_id"]),
            duration_s=durations[index],
            transcript=str(row["transcript"]),
            translation=str(row["translation"]),
            **{f"{TARGET_COLUMN[task]}_hypothesis": texts[task][index] for task in options.tasks},
            speaker_id=str(row.get("speaker_id", "")),
            data_source=str(row.get(SOURCE_COLUMN, "")),
            audio_path=locator_of(row),
            level_dbfs=levels_dbfs[index],
            text_style=options.text_style,
            verified=format_verified(str(row.get(VERIFIED_COLUMN, ""))),
        )
        for index, row in enumerate(rows)
    ]
    return Decoded(predictions, Timing(latencies_s, compute_s), decoder.num_unknown_ids)


def _batches(durations_s: Sequence[float], context: Context, batch_size: int) -> Iterator[list[int]]:
    """Positions of clips, longest first. The clips of a batch have the same window: what is said in one does
    not depend on the others."""

    def window_of(index: int) -> int:
        return context.index_of_duration(durations_s[index])

    longest_first = sorted(range(len(durations_s)), key=lambda index: (-durations_s[index], index))
    for _, group in itertools.groupby(longest_first, window_of):
        clips = list(group)
        yield from (clips[start : start + batch_size] for start in range(0, len(clips), batch_size))


def _decode_batch(
    batch: list[dict[str, Any]],
    durations: Sequence[float],
    languages: Sequence[str],
    input_kind: InputKind,
    architecture: Architecture,
    model: Any,
    tokenizer: Any,
    options: DecodingOptions,
    decoder: Callable[[np.ndarray], list[str]],
) -> list[str]:
    states = architecture.encode(model, architecture.input_batch(batch, input_kind))
    caps = [
        max_new_tokens(durations[row["row_index"]], options.tokens_per_second, options.tokens_base)
        for row in batch
    ]
    generated = generate_in_languages(
        functools.partial(architecture.generate, model, tokenizer),
        states,
        options.tasks,
        language=[languages[row["row_index"]] for row in batch],
        model_language=options.language,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=caps,
        num_beams=options.num_beams,
    )
    return decoder(cut_at_own_cap(generated, caps, tokenizer.pad_token_id).cpu().numpy())


def _with_progress(batches: Iterable[list[Any]], num_rows: int) -> Iterator[list[Any]]:
    with tqdm(total=num_rows, desc="decoding", unit=" utterances") as progress:
        for batch in batches:
            yield batch
            progress.update(len(batch))
