"""Transcripts in several languages: prompts in training, and generation, batch by batch."""

import functools
from typing import Any

import pytest
import torch

from tests.tiny_models import LOG_MEL_80_NANO, cached_rows, whisper_batch, whisper_model, whisper_processor
from vietst.constants import TASKS, TRANSCRIBE, TRANSLATE
from vietst.errors import ConfigError
from vietst.models import whisper_generation, whisper_inputs
from vietst.models.architectures import WHISPER
from vietst.models.languages import generate_in_languages, require_languages
from vietst.models.multitask import EncoderStates

LANGUAGES = ["vi", "en", "vi"]


@pytest.fixture(scope="module")
def processor() -> Any:
    return whisper_processor()


def test_a_transcript_is_prompted_in_its_language_and_a_translation_in_the_models(processor: Any) -> None:
    rows: list[dict[str, Any]] = [
        {**row, "language": language} for row, language in zip(cached_rows(3), ("", "en", "vi"), strict=True)
    ]
    inputs = whisper_inputs.WhisperCollator(processor, LOG_MEL_80_NANO, TASKS, "vi")(rows)[
        "decoder_input_ids"
    ]
    tokens = [processor.tokenizer.convert_ids_to_tokens(prompt)[1:3] for prompt in inputs[:, :4].tolist()]
    assert tokens == [
        *([f"<|{language}|>", "<|transcribe|>"] for language in LANGUAGES),
        *[["<|vi|>", "<|translate|>"]] * 3,
    ]


def test_each_hypothesis_is_what_its_own_prompt_gives(processor: Any) -> None:
    torch.manual_seed(3)
    model = whisper_model(processor).eval()
    with torch.no_grad():
        states = model.encode(whisper_batch(processor, cached_rows(3))["input_features"], None)
    generate = functools.partial(whisper_generation.generate, model, processor.tokenizer)

    def of(task: str, language: str) -> list[list[int]]:
        return _unpadded(generate(states, (task,), language=language, max_new_tokens=9), processor)

    in_languages = {language: of(TRANSCRIBE, language) for language in LANGUAGES}
    assert in_languages["vi"][1] != in_languages["en"][1], "the prompt makes no difference: nothing is tested"
    generated = generate_in_languages(
        generate,
        states,
        TASKS,
        language=LANGUAGES,
        model_language="vi",
        pad_token_id=processor.tokenizer.pad_token_id,
        max_new_tokens=9,
    )
    assert _unpadded(generated, processor) == [
        *(in_languages[language][index] for index, language in enumerate(LANGUAGES)),
        *of(TRANSLATE, "vi"),
    ]


def _unpadded(generated: torch.Tensor, processor: Any) -> list[list[int]]:
    return [
        [token for token in row if token != processor.tokenizer.pad_token_id] for row in generated.tolist()
    ]


@pytest.mark.parametrize("of_batch", [["vi", "vi"], ["en", "en"], ["en", "vi"]])
def test_processes_in_step_generate_as_often_whatever_their_batches_speak(of_batch: list[str]) -> None:
    calls = []

    def generate(
        states: EncoderStates, tasks: Any, *, language: str, max_new_tokens: list[int], synced_gpus: bool
    ) -> torch.Tensor:
        calls.append((*tasks, language))
        assert synced_gpus
        assert len(max_new_tokens) == len(states.last_hidden_state)
        return torch.full((len(states.last_hidden_state), 2), 7)

    generated = generate_in_languages(
        generate,
        EncoderStates(torch.zeros(2, 3, 4)),
        TASKS,
        language=of_batch,
        model_language="vi",
        max_new_tokens=[8, 9],
        pad_token_id=0,
        all_languages={"vi", "en"},
        synced_gpus=True,
    )
    assert calls == [(TRANSCRIBE, "en"), (TRANSCRIBE, "vi"), (TRANSLATE, "vi")]
    assert generated.tolist() == [[7, 7]] * 4


def test_a_language_that_the_tokenizer_lacks_is_named(processor: Any) -> None:
    require_languages({"vi", "en"}, WHISPER, processor.tokenizer, where="column language")
    with pytest.raises(ConfigError, match=r"'english': no <\|english\|>"):
        require_languages({"vi", "english"}, WHISPER, processor.tokenizer, where="column language")
