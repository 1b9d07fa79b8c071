"""What goes into Whisper: processor, prompts and labels, collator — in the order of `e2e_inputs.py`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    PretrainedConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperProcessor,
    WhisperTokenizer,
)

from vietst.data.batching import Batch, Prompts, label_batch, targets_of, utterance_batch
from vietst.data.context import Context, ContextWindows
from vietst.data.ctc_units import CtcTable
from vietst.data.encoder_states import has_states, pack_states
from vietst.data.feature_cache import features_of
from vietst.data.features import InputKind
from vietst.data.packed_clips import PackedClips, padded_batch
from vietst.errors import ModelError
from vietst.models.loading import LOAD_ERRORS, load_error, require_model_type

# --- processor ---------------------------------------------------------------------------------------


def load_processor(name_or_path: str) -> WhisperProcessor:
    """Feature extractor and tokenizer of a folder or Hub id.

    Raises:
        ModelError: nothing usable there.
    """
    require_model_type(name_or_path, WhisperConfig.model_type)
    try:
        processor = WhisperProcessor.from_pretrained(name_or_path)
    except LOAD_ERRORS as error:
        raise load_error(
            name_or_path, "a Whisper processor (feature extractor and tokenizer)", error
        ) from error
    if not isinstance(processor.feature_extractor, WhisperFeatureExtractor):
        raise ModelError(
            where=f"model {name_or_path}",
            rule="a Whisper checkpoint brings a WhisperFeatureExtractor",
            found=type(processor.feature_extractor).__name__,
            do="name a Whisper checkpoint, or train this one with the script of its own architecture",
        )
    return processor


# --- prompts and labels ------------------------------------------------------------------------------

PROMPT_LENGTH = 4


def decoder_prompt(tokenizer: WhisperTokenizer, task: str, language: str) -> list[int]:
    """`<|startoftranscript|> <|language|> <|task|> <|notimestamps|>` as ids.

    The one place that makes prompts: training puts them before every target, generation starts from them.

    Raises:
        ModelError: the tokenizer lacks one of these tokens (an English-only checkpoint, say).
    """
    tokens = ["<|startoftranscript|>", f"<|{language}|>", f"<|{task}|>", "<|notimestamps|>"]
    token_ids = tokenizer.convert_tokens_to_ids(tokens)
    missing = [
        token for token, known in zip(tokens, token_ids, strict=True) if known == tokenizer.unk_token_id
    ]
    if missing:
        raise ModelError(
            where=f"tokenizer of {tokenizer.name_or_path}",
            rule="a multilingual Whisper tokenizer knows the tokens of the decoder prompt",
            found=f"no {', '.join(missing)}",
            do="use a multilingual checkpoint (not one whose name ends in .en), or correct model.language",
        )
    return list(token_ids)


def text_token_ids(tokenizer: WhisperTokenizer, text: str) -> list[int]:
    """The tokens of a target text. Whisper was pretrained on texts that begin with a space, so these do."""
    return tokenizer(" " + text, add_special_tokens=False).input_ids


def label_lengths(tokenizer: WhisperTokenizer, texts: Sequence[str]) -> list[int]:
    """Decoder positions that each target takes: prompt and text (the end token is only predicted)."""
    return [PROMPT_LENGTH + len(text_token_ids(tokenizer, text)) for text in texts]


def max_label_length(model_config: PretrainedConfig) -> int:
    """Decoder positions that the model has (448 in all released Whispers)."""
    return model_config.max_target_positions


# --- collator ----------------------------------------------------------------------------------------


def packed_input(rows: Sequence[dict[str, Any]], input_kind: InputKind) -> dict[str, PackedClips]:
    """What the encoder reads, not padded yet: `input_features` of `WhisperCollator`.

    Rows that carry states of a frozen encoder give `encoder_states` instead.
    """
    if has_states(rows[0]):
        return {"encoder_states": pack_states(rows)}  # all are equally long
    return {
        "input_features": PackedClips.of(
            [features_of(row, input_kind) for row in rows],
            pad_values=[row["pad_value"] for row in rows],
            padded_length=input_kind.num_window_frames,
            time_is_last=True,
            mask_name="attention_mask",
        )
    }


def input_batch(rows: Sequence[dict[str, Any]], input_kind: InputKind) -> dict[str, torch.Tensor]:
    """What the encoder reads: `input_features` and `attention_mask`, or `encoder_states`."""
    return padded_batch(packed_input(rows, input_kind))


@dataclasses.dataclass
class WhisperCollator:
    """Rows of the feature cache → one batch.

    The window is the model's own, or with `windows` the shortest of them that the longest clip fits.

    Audio comes packed; `padded_batch` makes what stands here, on the device.

    Keys (U utterances, T targets, L longest decoder input, W window frames, M mel bins):

        input_features     float32 [U, M, W]  log-mel, padded as WhisperFeatureExtractor pads to its window
        attention_mask     int64   [U, W]     1 at real frames; SpecAugment masks only those
        encoder_states     float16 [U, P, D]  instead of these two, where a frozen encoder's states are cached
                                              (P encoder positions, D width)
        decoder_input_ids  int64   [T, L]     prompt + text, padded with the pad token
        labels             int64   [T, L]     text + end token, −100 at the prompt and at padding
        label_positions    int64   [K]        where the K labels that are not −100 stand, flattened
        utterance_index    int64   [T]        which row of input_features each target belongs to
        task_index         int64   [T]        position of its task in `TASKS`
        row_index          int64   [U]        number of the utterance in its split
        duration_s         float32 [U]        seconds of audio
        ctc_labels         int64   [U, C]     CTC units of the transcript, −100 at padding (with CTC only)
        num_positions      int64   [U]        encoder positions that hear speech (with CTC only)

    Example, task both, two utterances of which the second has no translation: T = 3,
    utterance_index [0, 1, 0], task_index [0, 0, 1] (first the transcripts, then the translations).
    """

    processor: WhisperProcessor
    input_kind: InputKind
    tasks: Sequence[str]
    language: str
    ctc_table: CtcTable | None = None
    windows: ContextWindows | None = None

    def __post_init__(self) -> None:
        self._context = Context.of(self.input_kind, self.windows)
        self._prompts = Prompts(decoder_prompt, self.processor.tokenizer, self.tasks, self.language)

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Batch:
        tokenizer = self.processor.tokenizer
        targets = targets_of(rows, self.tasks)
        batch: dict[str, Any] = label_batch(
            targets,
            self._prompts,
            [text_token_ids(tokenizer, target.text) for target in targets],
            end_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        batch |= packed_input(rows, self._context.of_rows(rows))
        batch |= utterance_batch(rows, self.ctc_table)
        if self.ctc_table is not None:
            num_frames = torch.tensor([row["num_frames"] for row in rows])
            batch["num_positions"] = (num_frames + 1) // 2  # the second convolution has stride 2
        return Batch(batch)
