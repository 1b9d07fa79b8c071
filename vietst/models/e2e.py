"""E2E (wav2vec2 + mBART-50): the model that learns both tasks, its loading and what a training sets.

The same functions in the same order as `whisper.py`. Weights come from a base folder that
`e2e_assembly.py` puts together from an encoder and a decoder, or from a run folder; what is saved is a
plain `SpeechEncoderDecoderModel` that needs nothing of this package.

Stock transformers agrees with this module for unpadded input. For padded batches of models that normalize
over time (wav2vec2-base) or have a length adaptor it does not: it mixes padding in (see `wav2vec2.py`).
"""

from typing import Any, ClassVar

import torch
from torch import nn
from transformers import MBartConfig, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel, Wav2Vec2Config
from transformers.modeling_outputs import Seq2SeqLMOutput

from vietst.config_schema import AugmentationSection, RunConfig
from vietst.constants import IGNORE_INDEX, TRANSCRIBE, TRANSLATE
from vietst.errors import ModelError
from vietst.models.e2e_inputs import language_code
from vietst.models.label_loss import give_label_loss
from vietst.models.loading import LOAD_ERRORS, load_error, require_all_weights
from vietst.models.multitask import (
    EncoderStates,
    LossWeights,
    MultitaskOutput,
    combine_losses,
    ctc_negative_log_likelihood,
    decoder_loss,
    write_stock_architecture,
)
from vietst.models.shared_states import share_states, shared_states_in, states_for_targets
from vietst.models.trainable import make_trainable
from vietst.models.wav2vec2 import LengthTrueWav2Vec2


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
