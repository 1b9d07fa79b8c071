"""Whisper: processor, prompts and labels, collator, model, freezing, generation — in the order of `e2e.py`.

Weights come from any folder or Hub id that `from_pretrained` takes; what is saved is a plain
`WhisperForConditionalGeneration` that needs nothing of this package.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PretrainedConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from vietst.config_schema import RunConfig
from vietst.constants import IGNORE_INDEX, TRANSCRIBE, TRANSLATE
from vietst.data.batching import Batch, Prompts, label_batch, targets_of, utterance_batch
from vietst.data.context import Context, ContextWindows
from vietst.data.ctc_units import CtcTable
from vietst.data.encoder_states import FrozenEncoder, has_states, module_digest, pack_states
from vietst.data.feature_cache import features_of
from vietst.data.features import InputKind
from vietst.data.packed_clips import PackedClips, padded_batch
from vietst.errors import ModelError
from vietst.models.label_loss import give_label_loss
from vietst.models.loading import LOAD_ERRORS, load_error, require_all_weights, require_model_type
from vietst.models.multitask import (
    EncoderStates,
    LossWeights,
    MultitaskOutput,
    combine_losses,
    ctc_negative_log_likelihood,
    decoder_loss,
    write_stock_architecture,
)
from vietst.models.shared_states import SharedStatesCache, by_task, share_states, states_for_targets
from vietst.models.short_windows import take_short_windows
from vietst.models.spec_augment import feature_mask, time_mask
from vietst.models.trainable import make_trainable

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


Collator = WhisperCollator


# --- model -------------------------------------------------------------------------------------------


class MultitaskWhisper(WhisperForConditionalGeneration):
    """Whisper that encodes each utterance once and learns all its targets from it.

    `ctc_head` and `loss_weights` serve training only. Checkpoints keep the head, so that training can go
    on; the released model is saved without it.
    """

    # Told to transformers' Trainer: the loss divides by `num_items_in_batch` itself (stock Whisper ignores
    # it, which makes gradients too large by accumulation steps × processes).
    accepts_loss_kwargs = True

    # The output projection is the embedding: it is not saved twice, and is tied again after loading.
    _keys_to_ignore_on_save: ClassVar[list[str]] = ["proj_out.weight"]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        share_states(self.model.decoder.layers)
        take_short_windows(self.model.encoder)
        give_label_loss(self.proj_out)
        self.loss_weights = LossWeights()
        self.ctc_head: nn.Linear | None = None
        self.encoder_is_frozen = False  # then it runs in eval mode and without SpecAugment

    def add_ctc_head(self, num_symbols: int) -> None:
        self.ctc_head = nn.Linear(self.config.d_model, num_symbols)
        nn.init.normal_(self.ctc_head.weight, std=self.config.init_std)
        nn.init.zeros_(self.ctc_head.bias)

    def train(self, mode: bool = True) -> "MultitaskWhisper":
        super().train(mode)
        if self.encoder_is_frozen:
            self.model.encoder.eval()
        return self

    def encode(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None) -> EncoderStates:
        """[num_utterances, n_mels, num_frames] → states [num_utterances, num_positions, width]."""
        if self.training and not self.encoder_is_frozen and self.config.apply_spec_augment:
            input_features = self._masked(input_features, attention_mask)
        return EncoderStates(self.model.encoder(input_features).last_hidden_state)

    def _masked(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """SpecAugment: 0 in masked frames and mel bins."""
        num_utterances, num_mel_bins, num_frames = input_features.shape
        if attention_mask is None:
            attention_mask = torch.ones_like(input_features[:, 0], dtype=torch.int64)
        frames = time_mask(self.config, attention_mask.sum(dim=1), num_frames)
        bins = feature_mask(self.config, num_utterances, num_mel_bins, input_features.device)
        return input_features.masked_fill(frames[:, None] | bins[:, :, None], 0.0)

    def forward(
        self,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        utterance_index: torch.Tensor | None = None,
        task_index: torch.Tensor | None = None,
        label_positions: torch.Tensor | None = None,
        encoder_states: torch.Tensor | None = None,
        ctc_labels: torch.Tensor | None = None,
        num_positions: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Training forward of a `WhisperCollator` batch; without `labels` it is stock Whisper's (generation).

        Args:
            num_items_in_batch: label tokens of the whole optimizer step, over all micro batches and
                processes; None: of this batch.
        """
        if labels is None:
            return super().forward(
                input_features=input_features,
                decoder_input_ids=decoder_input_ids,
                encoder_outputs=encoder_outputs,
                **kwargs,
            )
        if task_index is None or label_positions is None:
            raise ValueError("labels come with task_index and label_positions: use WhisperCollator")
        if encoder_states is not None:
            states = EncoderStates(encoder_states.to(self.dtype))
        elif input_features is not None:
            states = self.encode(input_features, attention_mask)
        else:
            raise ValueError("labels come with input_features or encoder_states")
        attended, slots = states_for_targets(states, utterance_index, task_index)
        hidden_states = self.model(
            encoder_outputs=BaseModelOutput(attended.last_hidden_state),
            decoder_input_ids=decoder_input_ids,
            use_cache=False,
            # Nothing is put into it. Without one, transformers looks through the positions for several texts
            # in a row, and a GPU would be waited for between encoder and decoder.
            past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()),
            target_slots=slots,
        ).last_hidden_state
        smoothing = self.loss_weights.label_smoothing if self.training else 0.0
        summed_loss, target_losses = decoder_loss(
            *(self.proj_out, hidden_states, labels, label_positions, task_index, self.loss_weights),
            label_smoothing=smoothing,
        )
        ctc_loss = None
        if self.ctc_head is not None and ctc_labels is not None and num_positions is not None:
            ctc_loss = ctc_negative_log_likelihood(
                self.ctc_head, states.last_hidden_state, num_positions, ctc_labels
            )
        if num_items_in_batch is None:
            num_items_in_batch = (labels != IGNORE_INDEX).sum()
        return MultitaskOutput(
            loss=combine_losses(summed_loss, ctc_loss, self.loss_weights, num_items_in_batch),
            target_losses=target_losses,
            encoder_states=states,
        )

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        super().save_pretrained(save_directory, *args, **kwargs)
        write_stock_architecture(save_directory, WhisperForConditionalGeneration)


def load_model(
    name_or_path: str, *, attention: str | None = None, model_class: Any = WhisperForConditionalGeneration
) -> Any:
    """Weights of a folder or Hub id, from safetensors or (`weights_only`) from a `.bin`, in float32.

    Args:
        attention: transformers' `attn_implementation`; None: its own choice.

    Raises:
        ModelError: nothing usable there, or an English-only model.
    """
    try:
        model, loading = model_class.from_pretrained(
            name_or_path,
            attn_implementation=attention,
            dtype=torch.float32,
            weights_only=True,
            output_loading_info=True,
        )
    except LOAD_ERRORS as error:
        raise load_error(
            name_or_path, "Whisper weights (model.safetensors or pytorch_model.bin)", error
        ) from error
    require_all_weights(name_or_path, loading["missing_keys"])
    _require_multilingual(name_or_path, model.generation_config)
    take_short_windows(model.model.encoder)
    share_states(model.model.decoder.layers)
    # from_pretrained forgets that the sinusoids are constants, and they would be trained.
    model.model.encoder.embed_positions.requires_grad_(False)
    return model


def _require_multilingual(name_or_path: str, generation_config: GenerationConfig) -> None:
    """Refuse what `generate` would refuse, but before hours of training.

    An English-only tokenizer does have the tokens of all languages; the model never learned them.
    """
    if getattr(generation_config, "is_multilingual", True) is False:
        raise ModelError(
            where=f"model {name_or_path}",
            rule="a multilingual Whisper",
            found="an English-only one (is_multilingual is false in its generation_config.json)",
            do="use a multilingual checkpoint: one whose name does not end in .en",
        )
    missing = [key for key in ("lang_to_id", "task_to_id") if not hasattr(generation_config, key)]
    if missing:
        raise ModelError(
            where=f"model {name_or_path}",
            rule="a generation_config.json that knows the ids of languages and tasks",
            found=f"no {' and no '.join(missing)}",
            do="copy the folder, and add generation_config.json of openai's checkpoint of the same size",
        )


def load_model_config(name_or_path: str) -> WhisperConfig:
    """The model's sizes, without its weights.

    Raises:
        ModelError: nothing usable there.
    """
    try:
        return WhisperConfig.from_pretrained(name_or_path)
    except LOAD_ERRORS as error:
        raise load_error(name_or_path, "a Whisper config.json", error) from error


def build_for_training(
    config: RunConfig, loss_weights: LossWeights, num_ctc_symbols: int | None
) -> MultitaskWhisper:
    """The model that a run trains: base weights, what is frozen, masking, losses, generation defaults."""
    attention = None if config.model.attention == "auto" else config.model.attention
    model: MultitaskWhisper = load_model(config.model.name, attention=attention, model_class=MultitaskWhisper)
    augmentation = config.augmentation
    model.config.apply_spec_augment = augmentation.mask_time_prob > 0 or augmentation.mask_feature_prob > 0
    model.config.mask_time_prob = augmentation.mask_time_prob
    model.config.mask_time_length = augmentation.mask_time_length
    model.config.mask_feature_prob = augmentation.mask_feature_prob
    model.config.mask_feature_length = augmentation.mask_feature_length
    model.loss_weights = loss_weights
    if num_ctc_symbols is not None:
        model.add_ctc_head(num_ctc_symbols)
    make_trainable(model, config)
    default_task = TRANSLATE if config.model.task == TRANSLATE else TRANSCRIBE
    set_generation_defaults(model, config.model.language, default_task)
    return model


def set_generation_defaults(model: WhisperForConditionalGeneration, language: str, task: str) -> None:
    """What a stock `pipeline` or `generate` does with the saved model when nothing is said: this task."""
    generation = model.generation_config
    generation.language, generation.task = language, task
    generation.forced_decoder_ids = None  # the way of transformers 4; it would contradict language and task
    generation.suppress_tokens = []  # allow all tokens: transcripts hold symbols that Whisper suppresses


# --- generation --------------------------------------------------------------------------------------

_MAX_CPU_FRAMES = 3000
"""What a CPU encodes at once: one window of 30 s. The intermediate tensors of more are so large that the C
library asks the system for new pages for each of them (4 clips at tiny's dimensions: 4 % more time; 8: 10 to
20 %, one thread)."""


@torch.no_grad()
def encode(model: WhisperForConditionalGeneration, inputs: dict[str, torch.Tensor]) -> EncoderStates:
    """Encoder states of an `input_batch`, with stock or our class."""
    features = inputs["input_features"].to(device=model.device, dtype=model.dtype)
    num_at_once = len(features)
    if model.device.type == "cpu":
        num_at_once = max(1, _MAX_CPU_FRAMES // features.shape[-1])
    states = [model.model.encoder(some).last_hidden_state for some in features.split(num_at_once)]
    return EncoderStates(torch.cat(states))


def frozen_encoder(model: WhisperForConditionalGeneration, input_kind: InputKind) -> FrozenEncoder:
    """The encoder as the cache of its states needs it. Every clip has all positions of the window: the
    decoder attends to the silence behind its end too."""
    config = model.config
    settings = {
        "model_type": config.model_type,
        "attention_heads": config.encoder_attention_heads,
        "activation_function": config.activation_function,
    }

    def encode_batch(rows: Sequence[dict[str, Any]]) -> list[np.ndarray]:
        return list(encode(model, input_batch(rows, input_kind)).last_hidden_state.float().cpu().numpy())

    return FrozenEncoder(
        module=model.model.encoder,
        digest=module_digest(model.model.encoder, settings),
        input_kind=input_kind,
        width=config.d_model,
        num_positions=lambda num_frames: config.max_source_positions,
        encode_batch=encode_batch,
    )


class _Suppressed(LogitsProcessor):
    """Tokens that are never said, and tokens that are not said first.

    transformers' own processors look up the whole vocabulary in these lists in every step.
    """

    def __init__(
        self, always: Sequence[int], at_first: Sequence[int], prompt_length: int, device: Any
    ) -> None:
        self._always, self._at_first = (
            torch.tensor(token_ids, dtype=torch.int64, device=device) for token_ids in (always, at_first)
        )
        self._prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocabulary], changed in place: `generate` has copied them."""
        scores.index_fill_(1, self._always, -torch.inf)
        if input_ids.shape[1] == self._prompt_length:
            scores.index_fill_(1, self._at_first, -torch.inf)
        return scores


@torch.no_grad()
def generate(
    model: WhisperForConditionalGeneration,
    tokenizer: WhisperTokenizer,
    encoder_states: EncoderStates,
    tasks: Sequence[str],
    *,
    language: str,
    max_new_tokens: int,
    num_beams: int = 1,
    synced_gpus: bool = False,
    cache: SharedStatesCache | None = None,
) -> torch.Tensor:
    """Hypotheses for every task from one encoder pass.

    Args:
        model: from `load_model`, or a `MultitaskWhisper`.
        encoder_states: of the utterances, from `encode` or a training forward.
        tasks: which targets to generate for every utterance.
        max_new_tokens: cap on the hypothesis, end token included; the decoder's positions cap it too.
        cache: of these states, to be used again; None: made here.

    Returns:
        int64 [len(tasks) × num_utterances, length] of generated ids, task by task, without the prompt,
        padded with the pad token.
    """
    prompts = [decoder_prompt(tokenizer, task, language) for task in tasks]
    prompt_length, defaults = len(prompts[0]), model.generation_config
    no_timestamps_id = tokenizer.convert_tokens_to_ids("<|notimestamps|>")
    # A timestamp would start Whisper's segment loop, which has no audio here. What else a model suppresses
    # stays so: OpenAI's do signs that nobody says, those trained here nothing.
    suppressed = _Suppressed(
        [*(defaults.suppress_tokens or ()), *range(no_timestamps_id + 1, model.config.vocab_size)],
        defaults.begin_suppress_tokens or (),
        prompt_length,
        model.device,
    )
    if cache is None:
        cache = SharedStatesCache(encoder_states)
    # Utterance by utterance, as the cache wants them.
    decoder_input_ids = torch.tensor(prompts, device=model.device).repeat(cache.num_utterances, 1)
    generated = model.generate(
        encoder_outputs=BaseModelOutput(cache.stand_in(len(decoder_input_ids))),
        decoder_input_ids=decoder_input_ids,
        # The prompt decides; without these two, Whisper would run a language detection pass of its own.
        language=language,
        task=tasks[0],
        suppress_tokens=None,  # `suppressed` does both
        begin_suppress_tokens=None,
        logits_processor=LogitsProcessorList([suppressed]),
        force_unique_generate_call=True,
        # Whisper adds the prompt's length itself, and keeps to the decoder's positions.
        max_length=max_new_tokens,
        num_beams=num_beams,
        synced_gpus=synced_gpus,
        past_key_values=cache.for_decoder(),
        use_cache=True,  # whatever the model's files say of it: the states are in there
    )
    return by_task(generated[:, prompt_length:], len(tasks))
