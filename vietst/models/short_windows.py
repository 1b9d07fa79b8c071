"""Whisper's encoder with windows that are shorter than its own.

transformers takes whole windows only. The encoder of openai's Whisper does not care: a shorter window has the
first of its positions, as in whisper.cpp with `audio_ctx`. Weights, names and what is saved stay as they are.
"""

from typing import Any

import torch
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder


class _ShortWindowEncoder(WhisperEncoder):
    def forward(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutput:
        """[num_utterances, n_mels, num_frames] → states [num_utterances, num_frames / 2, width]."""
        num_positions = input_features.shape[-1] // 2
        if num_positions >= self.max_source_positions:
            return super().forward(input_features, attention_mask, **kwargs)
        states = functional.gelu(self.conv1(input_features))
        states = functional.gelu(self.conv2(states)).permute(0, 2, 1)
        # Not a slice of the weight, which ZeRO-3 and FSDP put together for the module's forward only.
        states = states + self.embed_positions(torch.arange(num_positions, device=states.device))
        states = functional.dropout(states, p=self.dropout, training=self.training)
        for layer in self.layers:
            if self.training and self.layerdrop > 0 and float(torch.rand([])) < self.layerdrop:
                continue
            states = layer(states, None, **kwargs)
        return BaseModelOutput(last_hidden_state=self.layer_norm(states))


def take_short_windows(encoder: WhisperEncoder) -> None:
    """Let the encoder take features of any even number of frames, up to those of its own window."""
    encoder.__class__ = _ShortWindowEncoder
