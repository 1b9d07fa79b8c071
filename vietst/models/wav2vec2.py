"""wav2vec2 whose states of a clip do not depend on the padding behind it.

transformers' `Wav2Vec2Model` mixes padding into the real positions in two places:

* the first convolution of models with `feat_extract_norm="group"` (wav2vec2-base) normalizes each channel
  over time, and its mean and variance count the padding too;
* the strided convolutions of the length adaptor (`add_adapter`) look across the end of the clip, where an
  unpadded clip has zeros and a padded one has what the encoder made of its padding.

Here both see real frames only. Parameters, their names and the result for unpadded input are those of the
stock class, so weights go back and forth.
"""

from typing import Any

import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2Model
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2Adapter,
    Wav2Vec2BaseModelOutput,
    Wav2Vec2FeatureEncoder,
    Wav2Vec2GroupNormConvLayer,
)

from vietst.models.multitask import EncoderStates
from vietst.models.spec_augment import feature_mask, time_mask


class LengthTrueWav2Vec2(Wav2Vec2Model):
    """`Wav2Vec2Model` in two halves: `listen` gives frames, `shorten` is the length adaptor, if there is one.

    Only `last_hidden_state` is returned by `forward`, without the attentions and inner states that the stock
    class can give.
    """

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        self.feature_extractor = _LengthTrueFeatureEncoder(config)
        if config.add_adapter:
            self.adapter = _LengthTrueAdapter(config)
        self.post_init()
        self.is_listening_frozen = False  # then `listen` is unmasked, in eval mode and without gradients

    def listening_modules(self) -> list[nn.Module]:
        """All that makes frames of waveforms: everything but the length adaptor."""
        return [self.feature_extractor, self.feature_projection, self.encoder]

    def train(self, mode: bool = True) -> "LengthTrueWav2Vec2":
        super().train(mode)
        if self.is_listening_frozen:
            for module in self.listening_modules():
                module.eval()
        return self

    def listen(self, input_values: torch.Tensor, attention_mask: torch.Tensor | None) -> EncoderStates:
        """Frames of the waveforms, before the length adaptor.

        Args:
            input_values: float [num_utterances, num_samples], normalized, padded with zeros on the right.
            attention_mask: [num_utterances, num_samples], 1 at real samples; None: all are real.

        Returns:
            States [num_utterances, num_frames, width] and which of the frames are real.
        """
        if self.is_listening_frozen:
            with torch.no_grad():
                return self._listen(input_values, attention_mask)
        return self._listen(input_values, attention_mask)

    def _listen(self, input_values: torch.Tensor, attention_mask: torch.Tensor | None) -> EncoderStates:
        num_samples = None if attention_mask is None else attention_mask.sum(dim=-1)
        features = self.feature_extractor(input_values, num_samples).transpose(1, 2)
        frame_mask = None
        if num_samples is not None:
            num_frames = self._get_feat_extract_output_lengths(num_samples, add_adapter=False)
            frame_mask = torch.arange(features.shape[1], device=features.device) < num_frames[:, None]
        hidden_states, _ = self.feature_projection(features)
        if not self.is_listening_frozen:  # SpecAugment, in training only
            hidden_states = self._mask_hidden_states(hidden_states, attention_mask=frame_mask)
        states = self.encoder(hidden_states, attention_mask=frame_mask).last_hidden_state
        return EncoderStates(last_hidden_state=states, position_mask=frame_mask)

    def _mask_hidden_states(
        self,
        hidden_states: torch.Tensor,
        mask_time_indices: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """SpecAugment in training, as the stock class, whose masks a GPU has to wait for.

        The mask vector in masked frames of [num_utterances, num_frames, width], 0 in masked channels.
        """
        config = self.config
        if not (self.training and config.apply_spec_augment):
            return hidden_states
        num_utterances, num_frames, width = hidden_states.shape
        if config.mask_time_prob > 0:
            if attention_mask is None:
                attention_mask = torch.ones_like(hidden_states[..., 0], dtype=torch.bool)
            frames = time_mask(config, attention_mask.sum(dim=1), num_frames)
            mask_vector = self.masked_spec_embed.to(hidden_states.dtype)
            hidden_states = torch.where(frames[:, :, None], mask_vector, hidden_states)
        if config.mask_feature_prob > 0:
            channels = feature_mask(config, num_utterances, width, hidden_states.device)
            hidden_states = hidden_states.masked_fill(channels[:, None], 0.0)
        return hidden_states

    def shorten(self, frames: EncoderStates) -> EncoderStates:
        """What the decoder attends to: the frames through the length adaptor, or as they are without one."""
        if not self.config.add_adapter:
            return frames
        states, position_mask = self.adapter(frames.last_hidden_state, frames.position_mask)
        return EncoderStates(last_hidden_state=states, position_mask=position_mask)

    def forward(
        self, input_values: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> Wav2Vec2BaseModelOutput:
        """The stock class's call, as transformers' `generate` makes it."""
        states = self.shorten(self.listen(input_values, attention_mask))
        return Wav2Vec2BaseModelOutput(last_hidden_state=states.last_hidden_state)


class _LengthTrueFeatureEncoder(Wav2Vec2FeatureEncoder):
    """The convolutions over the waveform; the first one is told how much of it is real."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        self.normalizes_over_time = config.feat_extract_norm == "group"
        if self.normalizes_over_time:
            self.conv_layers[0] = _MaskedGroupNormConvLayer(config, layer_id=0)

    def forward(self, input_values: torch.Tensor, num_samples: torch.Tensor | None = None) -> torch.Tensor:
        """[num_utterances, num_samples] → [num_utterances, channels, num_frames]."""
        # Not made to require gradients, as in the stock class for the sake of reentrant checkpointing: the
        # backward pass would go on to the waveform.
        hidden_states = input_values[:, None]
        for index, layer in enumerate(self.conv_layers):
            if index == 0 and self.normalizes_over_time:
                hidden_states = layer(hidden_states, num_samples)
            else:
                hidden_states = layer(hidden_states)
        return hidden_states


class _MaskedGroupNormConvLayer(Wav2Vec2GroupNormConvLayer):
    """The first convolution, whose normalization over time counts real frames only.

    The lengths are an argument, not a state of the module: gradient checkpointing runs this layer again in
    the backward pass, when the model may have seen another batch.
    """

    def forward(self, hidden_states: torch.Tensor, num_samples: torch.Tensor | None = None) -> torch.Tensor:
        """[num_utterances, 1, num_samples] → [num_utterances, channels, num_frames]."""
        hidden_states = self.conv(hidden_states)
        if num_samples is None:
            hidden_states = self.layer_norm(hidden_states)
        else:
            num_frames = (num_samples - self.conv.kernel_size[0]) // self.conv.stride[0] + 1
            hidden_states = masked_group_norm(hidden_states, num_frames, self.layer_norm)
        return self.activation(hidden_states)


def masked_group_norm(
    hidden_states: torch.Tensor, num_frames: torch.Tensor, norm: nn.GroupNorm
) -> torch.Tensor:
    """Group normalization with one channel in each group, whose statistics leave the padding out.

    Args:
        hidden_states: [num_utterances, channels, length], computed in float32 whatever their type.
        num_frames: [num_utterances], how many frames of each are real.
    """
    values = hidden_states.float()
    length = torch.arange(values.shape[-1], device=values.device)
    mask = (length < num_frames[:, None])[:, None].to(values.dtype)  # [num_utterances, 1, length]
    count = mask.sum(dim=-1, keepdim=True)
    mean = (values * mask).sum(dim=-1, keepdim=True) / count
    variance = ((values - mean).square() * mask).sum(dim=-1, keepdim=True) / count
    scale = torch.rsqrt(variance + norm.eps) * norm.weight.float()[:, None]  # [num_utterances, channels, 1]
    shift = norm.bias.float()[:, None] - mean * scale
    return (values * scale + shift).to(hidden_states.dtype)


class _LengthTrueAdapter(Wav2Vec2Adapter):
    """The length adaptor; zeros stand behind the end of a clip before every convolution, as in a single clip.

    Without the stock class's layer drop: a dropped layer would change the length.
    """

    def forward(
        self, hidden_states: torch.Tensor, position_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[num_utterances, num_frames, width] and which are real → the same, shorter."""
        if self.proj is not None:  # the checkpoint's adaptor narrows the states first
            hidden_states = self.proj_layer_norm(self.proj(hidden_states))
        for layer in self.layers:
            if position_mask is not None:
                hidden_states = hidden_states.masked_fill(~position_mask[:, :, None], 0.0)
                # Position i of the output stands at i × stride of the input.
                position_mask = position_mask[:, :: layer.conv.stride[0]]
            hidden_states = layer(hidden_states.transpose(1, 2)).transpose(1, 2)
        return hidden_states, position_mask
