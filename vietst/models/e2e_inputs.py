"""What goes into E2E: processor, prompts and labels, collator — in the order of `whisper_inputs.py`."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import (
    MBart50Tokenizer,
    SpeechEncoderDecoderConfig,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

from vietst.constants import TASKS
from vietst.data.batching import Batch, Prompts, label_batch, targets_of, utterance_batch
from vietst.data.ctc_units import CtcTable
from vietst.data.encoder_states import has_states, pack_states
from vietst.data.feature_cache import features_of
from vietst.data.features import InputKind
from vietst.data.packed_clips import PackedClips, padded_batch
from vietst.errors import ModelError
from vietst.models.loading import LOAD_ERRORS, load_error, require_model_type

# --- processor ---------------------------------------------------------------------------------------


def load_processor(name_or_path: str) -> Wav2Vec2Processor:
    """Feature extractor and tokenizer of a base folder, a run folder or a Hub id of such.

    Raises:
        ModelError: nothing usable there.
    """
    require_model_type(name_or_path, SpeechEncoderDecoderConfig.model_type)
    try:
        processor = Wav2Vec2Processor.from_pretrained(name_or_path)
    except LOAD_ERRORS as error:
        raise load_error(
            name_or_path, "an E2E processor (wav2vec2 feature extractor and mBART-50 tokenizer)", error
        ) from error
    if not isinstance(processor.feature_extractor, Wav2Vec2FeatureExtractor) or not isinstance(
        processor.tokenizer, MBart50Tokenizer
    ):
        raise ModelError(
            where=f"model {name_or_path}",
            rule="an E2E checkpoint brings a Wav2Vec2FeatureExtractor and an MBart50Tokenizer",
            found=f"{type(processor.feature_extractor).__name__} and {type(processor.tokenizer).__name__}",
            do="name a model that scripts/train_e2e.py made, or an encoder and a decoder to make one from",
        )
    return processor


# --- prompts and labels ------------------------------------------------------------------------------

PROMPT_LENGTH = 2

MAX_LABEL_LENGTH = 256
"""Longest decoder sequence that is trained, prompt included; mBART-50 has 1,024 positions."""

TASK_TOKENS = {task: f"<2{task}>" for task in TASKS}
"""Added to mBART-50's vocabulary; the ids are looked up, never written down."""


def language_code(known: Iterable[str], language: str) -> str:
    """mBART-50's code of a language: `vi` and `vi_VN` both give `vi_VN`.

    Raises:
        ModelError: not among the known codes.
    """
    known = sorted(known)
    for code in known:
        if language in (code, code.partition("_")[0]):
            return code
    raise ModelError(
        where="model.language",
        rule="a language of the decoder: " + ", ".join(known),
        found=repr(language),
        do="write one of these codes, or what stands before its underscore",
    )


def decoder_prompt(tokenizer: MBart50Tokenizer, task: str, language: str) -> list[int]:
    """`vi_VN <2task>` as ids; the first one is the decoder's start token.

    The one place that makes prompts: training puts them before every target, generation starts from them.

    Raises:
        ModelError: the tokenizer lacks one of these tokens (that of an mBART-50 without our task tokens).
    """
    tokens = [language_code(tokenizer.lang_code_to_id, language), TASK_TOKENS[task]]
    token_ids = tokenizer.convert_tokens_to_ids(tokens)
    missing = [
        token for token, known in zip(tokens, token_ids, strict=True) if known == tokenizer.unk_token_id
    ]
    if missing:
        raise ModelError(
            where=f"tokenizer of {tokenizer.name_or_path}",
            rule="an E2E tokenizer knows the tokens of the decoder prompt",
            found=f"no {', '.join(missing)}",
            do="use a model that scripts/train_e2e.py made: it adds them to mBART-50's tokenizer",
        )
    return list(token_ids)


def text_token_ids(tokenizer: MBart50Tokenizer, text: str) -> list[int]:
    """The tokens of a target text, without language code and end token."""
    return tokenizer(text, add_special_tokens=False).input_ids


def label_lengths(tokenizer: MBart50Tokenizer, texts: Sequence[str]) -> list[int]:
    """Decoder positions that each target takes: prompt and text (the end token is only predicted)."""
    return [PROMPT_LENGTH + len(text_token_ids(tokenizer, text)) for text in texts]


def max_label_length(model_config: SpeechEncoderDecoderConfig) -> int:
    """Decoder positions that a target may take."""
    return min(MAX_LABEL_LENGTH, model_config.decoder.max_position_embeddings)


# --- collator ----------------------------------------------------------------------------------------


def packed_input(rows: Sequence[dict[str, Any]], input_kind: InputKind) -> dict[str, PackedClips]:
    """What the encoder reads, not padded yet: `input_values` of `E2ECollator`.

    Rows that carry states of a frozen encoder give `encoder_states` instead.
    """
    if has_states(rows[0]):
        return {"encoder_states": pack_states(rows, mask_name="encoder_states_mask")}
    waveforms = [features_of(row, input_kind) for row in rows]
    return {"input_values": PackedClips.of(waveforms, mask_name="attention_mask")}


def input_batch(rows: Sequence[dict[str, Any]], input_kind: InputKind) -> dict[str, torch.Tensor]:
    """What the encoder reads: `input_values` or `encoder_states`, each with its mask."""
    return padded_batch(packed_input(rows, input_kind))


@dataclasses.dataclass
class E2ECollator:
    """Rows of the feature cache → one batch.

    Audio comes packed; `padded_batch` makes what stands here, on the device.

    Keys (U utterances, T targets, L longest decoder input, N samples of the longest clip):

        input_values         float32 [U, N]     waveforms of zero mean and unit variance, padded with 0
        attention_mask       int64   [U, N]     1 at real samples
        encoder_states       float16 [U, P, D]  instead of these two, where a frozen encoder's states are
                                                cached: frames before the length adaptor (P of width D)
        encoder_states_mask  int64   [U, P]     1 at real frames (with cached states only)
        decoder_input_ids    int64   [T, L]     prompt + text, padded with the pad token
        labels               int64   [T, L]     text + end token, −100 at the prompt and at padding
        label_positions      int64   [K]        where the K labels that are not −100 stand, flattened
        utterance_index      int64   [T]        which row of input_values each target belongs to
        task_index           int64   [T]        position of its task in `TASKS`
        row_index            int64   [U]        number of the utterance in its split
        duration_s           float32 [U]        seconds of audio
        ctc_labels           int64   [U, C]     CTC units of the transcript, −100 at padding (with CTC only)

    Example, task both, two utterances of which the second has no translation: T = 3,
    utterance_index [0, 1, 0], task_index [0, 0, 1] (first the transcripts, then the translations).
    """

    processor: Wav2Vec2Processor
    input_kind: InputKind
    tasks: Sequence[str]
    language: str
    ctc_table: CtcTable | None = None

    def __post_init__(self) -> None:
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
        batch |= packed_input(rows, self.input_kind)
        return Batch(batch | utterance_batch(rows, self.ctc_table))
