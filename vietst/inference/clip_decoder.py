"""Clips to texts with their probabilities: all tasks from one encoder pass, as evaluation decodes."""

import dataclasses
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vietst.constants import SAMPLE_RATE_HZ
from vietst.data.features import InputKind
from vietst.evaluation.decode import TextDecoder, cut_at_own_cap, feature_row, max_new_tokens
from vietst.evaluation.word_language import tag_words
from vietst.inference.results import Said
from vietst.models.model_record import ModelRecord
from vietst.models.multitask import cross_attention_cache, log_probabilities, repeat_for_tasks


@dataclasses.dataclass(frozen=True)
class ClipDecoder:
    """A model on its device, and what it takes to make it speak."""

    architecture: types.ModuleType
    model: Any
    tokenizer: Any
    input_kind: InputKind
    record: ModelRecord

    def cost_s(self, duration_s: float) -> float:
        """Seconds that the encoder takes a clip for: Whisper's takes its whole window, whatever is in it."""
        return self.input_kind.window_s if self.input_kind.kind == "log_mel" else duration_s

    def __call__(self, waveforms: Sequence[np.ndarray], tasks: Sequence[str]) -> list[dict[str, Said]]:
        """What is said in clips that fit the model's window, in their order.

        Args:
            waveforms: float32 [num_samples] each, mono, 16 kHz. They are one batch.
        """
        record, tokenizer = self.record, self.tokenizer
        rows = [feature_row(waveform, self.input_kind) for waveform in waveforms]
        states = self.architecture.encode(self.model, self.architecture.input_batch(rows, self.input_kind))
        caps = [
            max_new_tokens(
                len(waveform) / SAMPLE_RATE_HZ, record.max_new_tokens_per_second, record.max_new_tokens_base
            )
            for waveform in waveforms
        ]
        prompts = torch.tensor(
            [self.architecture.decoder_prompt(tokenizer, task, record.language) for task in tasks],
            device=self.model.device,
        )
        cache = cross_attention_cache(self.model, states, prompts[0], len(tasks))
        generated = self.architecture.generate(
            self.model,
            tokenizer,
            states,
            tasks,
            language=record.language,
            max_new_tokens=max(caps),
            num_beams=record.num_beams,
            # Beam search wants rows of its own for each beam, and reorders them.
            cache=cache if record.num_beams == 1 else None,
        )
        generated = cut_at_own_cap(generated, caps, tokenizer.pad_token_id)
        lengths = _lengths(generated, caps, tokenizer.eos_token_id)
        log_probability = log_probabilities(
            self.model,
            repeat_for_tasks(states, len(tasks)),
            cache,
            prompts.repeat_interleave(len(waveforms), 0),
            generated,
            lengths,
        )
        texts = TextDecoder(tokenizer)(generated.cpu().numpy())
        said = [
            Said(text, tuple(tag_words(text)), num_tokens, probability)
            for text, num_tokens, probability in zip(
                texts, lengths.tolist(), log_probability.tolist(), strict=True
            )
        ]
        return [
            {task: said[position * len(waveforms) + clip] for position, task in enumerate(tasks)}
            for clip in range(len(waveforms))
        ]


def _lengths(generated: torch.Tensor, caps: Sequence[int], end_token_id: int) -> torch.Tensor:
    """Tokens of each hypothesis, end token included; what follows it, or its cap, is padding.

    Args:
        generated: int64 [num_hypotheses, length].
        caps: of the clips; they repeat task by task.
    """
    own_caps = torch.tensor(caps, device=generated.device).repeat(len(generated) // len(caps))
    is_end = generated == end_token_id
    until_end = torch.where(is_end.any(dim=1), is_end.int().argmax(dim=1) + 1, generated.shape[1])
    return torch.minimum(until_end, own_caps)
