"""E2E (wav2vec2 + mBART-50): processor, prompts and labels, collator, model, freezing, generation.

The same functions in the same order as `whisper.py`. Weights come from a base folder that
`e2e_assembly.py` puts together from an encoder and a decoder, or from a run folder; what is saved is a
plain `SpeechEncoderDecoderModel` that needs nothing of this package.

Stock transformers agrees with this module for unpadded input. For padded batches of models that normalize
over time (wav2vec2-base) or have a length adaptor it does not: it mixes padding in (see `wav2vec2.py`).
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from transformers import (
    MBart50Tokenizer,
    MBartConfig,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)
from transformers.modeling_outputs import Seq2SeqLMOutput

from vietst.config_schema import AugmentationSection, RunConfig
from vietst.constants import IGNORE_INDEX, TASKS, TRANSCRIBE, TRANSLATE
from vietst.data.batching import Batch, Prompts, label_batch, targets_of, utterance_batch
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
from vietst.models.shared_states import (
    SharedStatesCache,
    by_task,
    share_states,
    shared_states_in,
    states_for_targets,
)
from vietst.models.trainable import make_trainable
from vietst.models.wav2vec2 import LengthTrueWav2Vec2

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


Collator = E2ECollator


# --- model -------------------------------------------------------------------------------------------


class MultitaskE2E(SpeechEncoderDecoderModel):
    """wav2vec2 and mBART's decoder; encodes each utterance once and learns all its targets from it.

    `ctc_head` and `loss_weights` serve training only. Checkpoints keep the head, so that training can go
    on; the released model is saved without it. The head reads the frames before the length adaptor: after
    it, a position stands for 160 ms, too few for characters.
    """

    # Told to transformers' Trainer: the loss divides by `num_items_in_batch` itself (the stock class ignores
    # it, which makes gradients too large by accumulation steps × processes).
    accepts_loss_kwargs = True

    main_input_name = "input_values"

    # The output projection is the embedding: it is not saved twice, and is tied again after loading.
    _keys_to_ignore_on_save: ClassVar[list[str]] = ["decoder.lm_head.weight"]

    def __init__(
        self,
        config: SpeechEncoderDecoderConfig | None = None,
        encoder: LengthTrueWav2Vec2 | None = None,
        decoder: Any = None,
    ) -> None:
        if encoder is None and config is not None:
            encoder = LengthTrueWav2Vec2._from_config(config.encoder)
        super().__init__(config, encoder, decoder)
        # The units of FSDP. What transformers gathers from the parts names layers of mBART's encoder too.
        layers = (self.encoder.encoder.layers, self.decoder.model.decoder.layers)
        self._no_split_modules = {type(layer).__name__ for part in layers for layer in part}
        share_states(self.decoder.model.decoder.layers)
        give_label_loss(self.decoder.lm_head)
        self.loss_weights = LossWeights()
        self.ctc_head: nn.Linear | None = None

    def add_ctc_head(self, num_symbols: int) -> None:
        self.ctc_head = nn.Linear(self.config.encoder.hidden_size, num_symbols)
        nn.init.normal_(self.ctc_head.weight, std=self.config.encoder.initializer_range)
        nn.init.zeros_(self.ctc_head.bias)

    @property
    def encoder_is_frozen(self) -> bool:
        """Whether the encoder runs in eval mode, unmasked and without gradients.

        That is all before the length adaptor, which always trains, even if it lives in transformers' encoder.
        """
        return self.encoder.is_listening_frozen

    @encoder_is_frozen.setter
    def encoder_is_frozen(self, is_frozen: bool) -> None:
        self.encoder.is_listening_frozen = is_frozen

    def encode(self, input_values: torch.Tensor, attention_mask: torch.Tensor | None) -> EncoderStates:
        """[num_utterances, num_samples] → states [num_utterances, num_positions, width of the encoder]."""
        return self.encoder.shorten(self.encoder.listen(input_values, attention_mask))

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        utterance_index: torch.Tensor | None = None,
        task_index: torch.Tensor | None = None,
        label_positions: torch.Tensor | None = None,
        encoder_states: torch.Tensor | None = None,
        encoder_states_mask: torch.Tensor | None = None,
        ctc_labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Training forward of an `E2ECollator` batch; without `labels` it is the stock class's (generation).

        Args:
            num_items_in_batch: label tokens of the whole optimizer step, over all micro batches and
                processes; None: of this batch.
        """
        if labels is None:
            if isinstance(encoder_outputs, EncoderStates):
                return self._decode(encoder_outputs, decoder_input_ids, **kwargs)
            return super().forward(
                input_values=input_values,
                attention_mask=attention_mask,
                decoder_input_ids=decoder_input_ids,
                encoder_outputs=encoder_outputs,
                **kwargs,
            )
        if task_index is None or label_positions is None:
            raise ValueError("labels come with task_index and label_positions: use E2ECollator")
        if encoder_states is not None and encoder_states_mask is not None:
            frames = EncoderStates(encoder_states.to(self.dtype), encoder_states_mask.bool())
        elif input_values is not None:
            frames = self.encoder.listen(input_values, attention_mask)
        else:
            raise ValueError("labels come with input_values, or with encoder_states and their mask")
        states = self.encoder.shorten(frames)
        attended, slots = states_for_targets(states, utterance_index, task_index)
        hidden_states = self.decoder.model.decoder(
            input_ids=decoder_input_ids,
            encoder_hidden_states=self._projected(attended),
            encoder_attention_mask=attended.position_mask,
            use_cache=False,
            target_slots=slots,
        ).last_hidden_state
        smoothing = self.loss_weights.label_smoothing if self.training else 0.0
        summed_loss, target_losses = decoder_loss(
            *(self.decoder.lm_head, hidden_states, labels, label_positions, task_index, self.loss_weights),
            label_smoothing=smoothing,
        )
        ctc_loss = None
        if self.ctc_head is not None and ctc_labels is not None:
            ctc_loss = ctc_negative_log_likelihood(
                self.ctc_head, frames.last_hidden_state, num_positions(frames), ctc_labels
            )
        if num_items_in_batch is None:
            num_items_in_batch = (labels != IGNORE_INDEX).sum()
        return MultitaskOutput(
            loss=combine_losses(summed_loss, ctc_loss, self.loss_weights, num_items_in_batch),
            target_losses=target_losses,
            encoder_states=states,
        )

    def _decode(
        self,
        states: EncoderStates,
        decoder_input_ids: torch.Tensor | None,
        decoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> Seq2SeqLMOutput:
        """The decoder on states that know which of their positions are real: one row of them for each row, or
        those of the utterances in a `SharedStatesCache`."""
        cache = shared_states_in(past_key_values)
        if cache is None:
            hidden_states, position_mask = self._projected(states), states.position_mask
        else:
            shared = cache.project(self._projected)
            hidden_states, position_mask = shared.last_hidden_state, shared.position_mask
        outputs = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=hidden_states,
            encoder_attention_mask=position_mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        return Seq2SeqLMOutput(logits=outputs.logits, past_key_values=outputs.past_key_values)

    def _projected(self, states: EncoderStates) -> torch.Tensor:
        """States of the decoder's width."""
        hidden_states = states.last_hidden_state
        return self.enc_to_dec_proj(hidden_states) if hasattr(self, "enc_to_dec_proj") else hidden_states

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        super().save_pretrained(save_directory, *args, **kwargs)
        write_stock_architecture(save_directory, SpeechEncoderDecoderModel)


def num_positions(states: EncoderStates) -> torch.Tensor:
    """How many positions of each utterance are real: int64 [num_utterances]."""
    if states.position_mask is not None:
        return states.position_mask.sum(dim=1)
    num_utterances, length, _ = states.last_hidden_state.shape
    return torch.full((num_utterances,), length, device=states.last_hidden_state.device)


def load_model(
    name_or_path: str,
    *,
    attention: str | None = None,
    model_class: Any = MultitaskE2E,
    config: SpeechEncoderDecoderConfig | None = None,
) -> Any:
    """Weights of a folder or Hub id, from safetensors or (`weights_only`) from a `.bin`, in float32.

    Args:
        attention: transformers' `attn_implementation`; None: its own choice.
        model_class: ours by default, in evaluation too: the stock class mixes padding in.
        config: instead of the one that lies there, with other dropout, say.

    Raises:
        ModelError: nothing usable there.
    """
    config = config or load_model_config(name_or_path)
    try:
        model, loading = model_class.from_pretrained(
            name_or_path,
            config=config,
            attn_implementation=attention,
            dtype=torch.float32,
            weights_only=True,
            output_loading_info=True,
        )
    except LOAD_ERRORS as error:
        raise load_error(
            name_or_path, "E2E weights (model.safetensors or pytorch_model.bin)", error
        ) from error
    require_all_weights(name_or_path, loading["missing_keys"])
    return model


def load_model_config(name_or_path: str) -> SpeechEncoderDecoderConfig:
    """The model's sizes, without its weights.

    Raises:
        ModelError: nothing usable there.
    """
    try:
        config = SpeechEncoderDecoderConfig.from_pretrained(name_or_path)
    except LOAD_ERRORS as error:
        raise load_error(name_or_path, "an E2E config.json", error) from error
    if not isinstance(config.encoder, Wav2Vec2Config) or not isinstance(config.decoder, MBartConfig):
        raise ModelError(
            where=f"model {name_or_path}",
            rule="an E2E model is a wav2vec2 encoder with an mBART decoder",
            found=f"{config.encoder.model_type} with {config.decoder.model_type}",
            do="name a model that scripts/train_e2e.py made, or an encoder and a decoder to make one from",
        )
    return config


def build_for_training(
    config: RunConfig, loss_weights: LossWeights, num_ctc_symbols: int | None
) -> MultitaskE2E:
    """The model that a run trains: base weights, what is frozen, masking, losses, generation defaults."""
    attention = None if config.model.attention == "auto" else config.model.attention
    model_config = load_model_config(config.model.name)
    set_dropout(model_config, config.model.dropout)
    _set_masking(model_config.encoder, config.augmentation)
    model: MultitaskE2E = load_model(config.model.name, attention=attention, config=model_config)
    model.loss_weights = loss_weights
    if num_ctc_symbols is not None:
        model.add_ctc_head(num_ctc_symbols)
    make_trainable(model, config)
    default_task = TRANSLATE if config.model.task == TRANSLATE else TRANSCRIBE
    set_generation_defaults(model, config.model.language, default_task)
    return model


def set_dropout(config: SpeechEncoderDecoderConfig, dropout: float | None) -> None:
    """The rates that training uses; None: as they are. No layer is left out."""
    # Layers that are left out at random have no gradient, which distributed training would wait for.
    config.encoder.layerdrop = config.decoder.decoder_layerdrop = 0.0
    if dropout is not None:
        for name in ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"):
            setattr(config.encoder, name, dropout)
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            setattr(config.decoder, name, dropout)


def _set_masking(encoder_config: Wav2Vec2Config, augmentation: AugmentationSection) -> None:
    """SpecAugment over the frames and channels that enter the encoder's layers."""
    is_masked = augmentation.mask_time_prob > 0 or augmentation.mask_feature_prob > 0
    encoder_config.apply_spec_augment = is_masked
    if is_masked:
        # With both shares 0 the class would lack the mask vector that the weights have.
        encoder_config.mask_time_prob = augmentation.mask_time_prob
        encoder_config.mask_feature_prob = augmentation.mask_feature_prob
    encoder_config.mask_time_length = augmentation.mask_time_length
    encoder_config.mask_feature_length = augmentation.mask_feature_length
    # transformers' 2 would mask most of a clip of half a second, whatever the share.
    encoder_config.mask_time_min_masks = encoder_config.mask_feature_min_masks = 0


def set_generation_defaults(model: SpeechEncoderDecoderModel, language: str, task: str) -> None:
    """What a stock `pipeline` or `generate` does with the saved model when nothing is said: this task."""
    generation = model.generation_config
    start_token_id = generation.lang_to_id[language_code(generation.lang_to_id, language)]
    for config in (model.config, generation):
        config.decoder_start_token_id = start_token_id
    # Forced as the first token after the start token: the prompt that training puts there.
    generation.forced_bos_token_id = generation.task_to_id[task]


# --- generation --------------------------------------------------------------------------------------


@torch.no_grad()
def encode(model: MultitaskE2E, inputs: dict[str, torch.Tensor]) -> EncoderStates:
    """Encoder states of an `input_batch`."""
    input_values = inputs["input_values"].to(device=model.device, dtype=model.dtype)
    return model.encode(input_values, inputs["attention_mask"].to(model.device))


def frozen_encoder(model: MultitaskE2E, input_kind: InputKind) -> FrozenEncoder:
    """The encoder as the cache of its states needs it: all that comes before the length adaptor."""
    encoder, config = model.encoder, model.config.encoder
    module = nn.ModuleList(encoder.listening_modules())
    module.training = False  # a mere list of modules, which speak for themselves
    unseen_in_weights = (
        "model_type",
        "feat_extract_norm",
        "feat_extract_activation",
        "conv_stride",
        "num_attention_heads",
        "hidden_act",
        "do_stable_layer_norm",
        "layer_norm_eps",
    )

    def num_frames(num_samples: int) -> int:
        return int(encoder._get_feat_extract_output_lengths(torch.tensor(num_samples), add_adapter=False))

    @torch.no_grad()
    def encode_batch(rows: Sequence[dict[str, Any]]) -> list[np.ndarray]:
        batch = {name: tensor.to(model.device) for name, tensor in input_batch(rows, input_kind).items()}
        frames = encoder.listen(batch["input_values"].to(model.dtype), batch["attention_mask"])
        states = frames.last_hidden_state.float().cpu().numpy()
        return [clip[:length] for clip, length in zip(states, num_positions(frames).tolist(), strict=True)]

    return FrozenEncoder(
        module=module,
        digest=module_digest(module, {name: getattr(config, name) for name in unseen_in_weights}),
        input_kind=input_kind,
        width=config.hidden_size,
        num_positions=num_frames,
        encode_batch=encode_batch,
    )


@torch.no_grad()
def generate(
    model: MultitaskE2E,
    tokenizer: MBart50Tokenizer,
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
        encoder_states: of the utterances, from `encode` or a training forward.
        tasks: which targets to generate for every utterance.
        max_new_tokens: cap on the hypothesis, end token included; the decoder's positions cap it too.
        cache: of these states, to be used again; None: made here.

    Returns:
        int64 [len(tasks) × num_utterances, length] of generated ids, task by task, without the prompt,
        padded with the pad token.
    """
    prompts = [decoder_prompt(tokenizer, task, language) for task in tasks]
    prompt_length = len(prompts[0])
    if cache is None:
        cache = SharedStatesCache(encoder_states)
    # Utterance by utterance, as the cache wants them.
    decoder_input_ids = torch.tensor(prompts, device=model.device).repeat(cache.num_utterances, 1)
    generated = model.generate(
        encoder_outputs=EncoderStates(cache.stand_in(len(decoder_input_ids))),
        decoder_input_ids=decoder_input_ids,
        # Where it differs from the first token of the prompt, generate would put it before the prompt.
        decoder_start_token_id=prompts[0][0],
        max_length=min(prompt_length + max_new_tokens, model.config.decoder.max_position_embeddings),
        num_beams=num_beams,
        synced_gpus=synced_gpus,
        past_key_values=cache.for_decoder(),
        use_cache=True,  # whatever the model's files say of it: the states are in there
    )
    return by_task(generated[:, prompt_length:], len(tasks))
