"""Whisper: the model that learns both tasks, its loading and what a training sets — in the order of `e2e.py`.

Weights come from any folder or Hub id that `from_pretrained` takes; what is saved is a plain
`WhisperForConditionalGeneration` that needs nothing of this package.
"""

from typing import Any, ClassVar

import torch
from torch import nn
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from vietst.config_schema import RunConfig
from vietst.constants import IGNORE_INDEX, TRANSCRIBE, TRANSLATE
from vietst.errors import ModelError
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
from vietst.models.shared_states import share_states, states_for_targets
from vietst.models.short_windows import take_short_windows
from vietst.models.spec_augment import feature_mask, time_mask
from vietst.models.trainable import make_trainable


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
            do="copy or download the whole folder again; where it has no generation_config.json, openai's "
            "checkpoint of the same size has",
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
