"""Transcripts in several languages: the decoder prompt of each names its own.

A model has one language, that of its translations, and of all transcripts that say nothing else.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

from vietst.constants import TRANSCRIBE
from vietst.errors import ConfigError, ModelError
from vietst.models.architectures import Architecture
from vietst.models.multitask import EncoderStates
from vietst.models.own_caps import Caps


def require_languages(
    languages: Collection[str], architecture: Architecture, tokenizer: Any, *, where: str
) -> None:
    """Raises ConfigError for a language that a model's tokenizer has no prompt for."""
    for language in sorted(languages):
        try:
            architecture.decoder_prompt(tokenizer, TRANSCRIBE, language)
        except ModelError as error:
            raise ConfigError(
                where=where,
                rule=error.rule,
                found=f"{language!r}: {error.found}",
                do="correct the manifest or data.sources.NAME.language (vi, en …), or rename a column that "
                "says something else; then preprocess again",
            ) from error


def generate_in_languages(
    generate: Callable[..., torch.Tensor],
    states: EncoderStates,
    tasks: Sequence[str],
    *,
    language: str | Sequence[str],
    model_language: str,
    max_new_tokens: Caps,
    pad_token_id: int,
    all_languages: Collection[str] = (),
    synced_gpus: bool = False,
    **options: Any,
) -> torch.Tensor:
    """An architecture's `generate`, with each transcript in its own language.

    Args:
        generate: of an architecture, for a model and its tokenizer.
        language: of all transcripts, or of each utterance's.
        model_language: of all translations.
        max_new_tokens: of all, or of each utterance's.
        all_languages: that batches may have.
        synced_gpus: all processes take equally many steps; so each generates in all languages, whatever is in
            its own batch.

    Returns:
        As `generate`: int64 [len(tasks) × num_utterances, length], task by task, padded.
    """
    num_utterances = len(states.last_hidden_state)
    options["synced_gpus"] = synced_gpus
    if isinstance(language, str):
        return generate(states, tasks, language=language, max_new_tokens=max_new_tokens, **options)
    languages = sorted({*language, *(all_languages if synced_gpus else ())})
    if languages == [model_language]:
        return generate(states, tasks, language=model_language, max_new_tokens=max_new_tokens, **options)
    hypotheses: list[torch.Tensor | None] = []
    for task in tasks:
        if task != TRANSCRIBE:
            hypotheses += generate(
                states, (task,), language=model_language, max_new_tokens=max_new_tokens, **options
            )
            continue
        of_task: list[torch.Tensor | None] = [None] * num_utterances
        for one in languages:
            utterances = [index for index, its in enumerate(language) if its == one]
            some = utterances or [0]  # where nobody speaks it, the first stands in, and is thrown away
            generated = generate(
                _some(states, some),
                (task,),
                language=one,
                max_new_tokens=max_new_tokens
                if isinstance(max_new_tokens, int)
                else [max_new_tokens[index] for index in some],
                **options,
            )
            for index, hypothesis in zip(utterances, generated, strict=False):
                of_task[index] = hypothesis
        hypotheses += of_task
    return torch.nn.utils.rnn.pad_sequence(
        [hypothesis for hypothesis in hypotheses if hypothesis is not None],
        batch_first=True,
        padding_value=pad_token_id,
    )


def _some(states: EncoderStates, utterances: Sequence[int]) -> EncoderStates:
    return EncoderStates(**{name: tensor[list(utterances)] for name, tensor in states.items()})
