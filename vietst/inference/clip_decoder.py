"""Clips to texts with their probabilities: all tasks from one encoder pass, as evaluation decodes."""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vietst.config_schema import ContextChoice, EvaluationSection
from vietst.constants import SAMPLE_RATE_HZ, TRANSCRIBE
from vietst.data.context import Context
from vietst.data.features import InputKind, input_kind_of
from vietst.errors import ModelError
from vietst.evaluation.decode import TextDecoder, cut_at_own_cap, feature_row, max_new_tokens
from vietst.evaluation.model_predictions import device_and_dtype
from vietst.evaluation.word_language import tag_words
from vietst.inference.results import Said
from vietst.models.architectures import ARCHITECTURES, Architecture, architecture_of
from vietst.models.loading import model_folder
from vietst.models.log_probabilities import log_probabilities
from vietst.models.model_record import ModelRecord, context_of, read_model_record
from vietst.models.shared_states import SharedStatesCache


def load_clip_decoder(
    name: str,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    context: ContextChoice | None = None,
) -> "ClipDecoder":
    """A run folder, a released model or a stock Whisper, from a folder or the Hub, ready to speak.

    Args:
        device: None: a GPU where there is one.
        dtype: None: half precision on an NVIDIA GPU (bfloat16 where it can), else float32.
        revision: branch, tag or commit of a repository on the Hub.
        context: of a Whisper: `full`: it hears every clip in its whole window; `bucketed`: in the shortest
            window that fits; None: as it was trained.

    Raises:
        ModelError: nothing usable there.
    """
    folder = model_folder(name, revision)
    record = read_model_record(str(folder)) or _record_of_stock(folder, name)
    windows = context_of(name, record, record.architecture, context)
    record = record.model_copy(update={"context": windows})
    architecture = ARCHITECTURES[record.architecture]
    processor = architecture.load_processor(str(folder))
    best_device, best_dtype = device_and_dtype()
    chosen = best_device if device is None else torch.device(device)
    if dtype is None:
        dtype = best_dtype if chosen.type == best_device.type else torch.float32
    model = architecture.load_model(str(folder)).to(chosen, dtype).eval()
    kind = input_kind_of(processor.feature_extractor)
    return ClipDecoder(architecture, model, processor.tokenizer, kind, record)


def _record_of_stock(folder: Path, name: str) -> ModelRecord:
    """Of a model that was not trained here: a stock Whisper, asked for Vietnamese transcripts."""
    architecture = architecture_of(str(folder))
    if architecture != "whisper":
        raise ModelError(
            where=f"model {name}",
            rule="a model that was trained here, or a Whisper",
            found=f"an {architecture} model without a record of a training",
            do="name the folder that training wrote, or what was pushed from it",
        )
    usual = EvaluationSection()
    return ModelRecord(
        vietst_version=None,
        architecture="whisper",
        tasks=(TRANSCRIBE,),  # its `translate` speaks English
        language="vi",
        num_beams=1,
        max_new_tokens_per_second=usual.max_new_tokens_per_second,
        max_new_tokens_base=usual.max_new_tokens_base,
    )


@dataclasses.dataclass(frozen=True)
class ClipDecoder:
    """A model on its device, and what it takes to make it speak."""

    architecture: Architecture
    model: Any
    tokenizer: Any
    input_kind: InputKind
    record: ModelRecord

    @functools.cached_property
    def context(self) -> Context:
        return Context.of(self.input_kind, self.record.context)

    @property
    def hears_windows(self) -> bool:
        """Whether clips are padded to windows, and those of one batch to the same: Whisper's are."""
        return self.input_kind.kind == "log_mel"

    def cost_s(self, duration_s: float) -> float:
        """Seconds that the encoder takes a clip for: Whisper's takes its window, whatever is in it."""
        if not self.hears_windows:
            return duration_s
        return self.context.windows_s[self.context.index_of_duration(duration_s)]

    def __call__(self, waveforms: Sequence[np.ndarray], tasks: Sequence[str]) -> list[dict[str, Said]]:
        """What is said in clips that fit the model's window, in their order.

        Args:
            waveforms: float32 [num_samples] each, mono, 16 kHz. They are one batch.
        """
        record, tokenizer = self.record, self.tokenizer
        rows = [feature_row(waveform, self.input_kind) for waveform in waveforms]
        inputs = self.architecture.input_batch(rows, self.context.of_rows(rows))
        states = self.architecture.encode(self.model, inputs)
        caps = [
            max_new_tokens(
                len(waveform) / SAMPLE_RATE_HZ, record.max_new_tokens_per_second, record.max_new_tokens_base
            )
            for waveform in waveforms
        ]
        cache = SharedStatesCache(states)
        with _without_advice():
            generated = self.architecture.generate(
                self.model,
                tokenizer,
                states,
                tasks,
                language=record.language,
                max_new_tokens=caps,
                num_beams=record.num_beams,
                cache=cache,
            )
        generated = cut_at_own_cap(generated, caps, tokenizer.pad_token_id)
        lengths = hypothesis_lengths(generated, caps, tokenizer.eos_token_id)
        prompts = [self.architecture.decoder_prompt(tokenizer, task, record.language) for task in tasks]
        log_probability = log_probabilities(self.model, cache, prompts, generated, lengths)
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


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """What transformers warns of here is how Whisper's own generation calls its generation, and that encoder
    states have no mask: nothing for the user to mend."""
    logger = logging.getLogger("transformers.generation")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def hypothesis_lengths(generated: torch.Tensor, caps: Sequence[int], end_token_id: int) -> torch.Tensor:
    """Tokens of each hypothesis, end token included; what follows it, or its cap, is padding.

    Args:
        generated: int64 [num_hypotheses, length].
        caps: of the clips; they repeat task by task.
    """
    own_caps = torch.tensor(caps, device=generated.device).repeat(len(generated) // len(caps))
    is_end = generated == end_token_id
    until_end = torch.where(is_end.any(dim=1), is_end.int().argmax(dim=1) + 1, generated.shape[1])
    return torch.minimum(until_end, own_caps)
