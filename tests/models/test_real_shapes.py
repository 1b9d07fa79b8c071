"""Generation with models of the published shape: no timestamps, no language detection, beams, both tasks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.real_shapes import LARGE_V3, TINY, PublishedWhisper, write_whisper_repository
from vietst.constants import TASKS
from vietst.data.features import input_kind_of
from vietst.models import whisper, whisper_generation, whisper_inputs

NUM_UTTERANCES, MAX_NEW_TOKENS = 2, 12


@pytest.fixture(scope="module", params=[TINY, LARGE_V3], ids=lambda published: published.repo_id)
def published(request: pytest.FixtureRequest) -> PublishedWhisper:
    return request.param


@pytest.fixture(scope="module")
def repository(
    published: PublishedWhisper, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    return str(write_whisper_repository(tmp_path_factory.mktemp("whisper") / "base", published, shared_data))


@pytest.fixture(scope="module")
def tokenizer(repository: str) -> Any:
    return whisper_inputs.load_processor(repository).tokenizer


@pytest.fixture
def model(repository: str) -> Any:
    return whisper.load_model(repository).eval()


@pytest.fixture
def input_features(model: Any) -> torch.Tensor:
    """Noise whose colour differs from utterance to utterance: [utterances, mel bins, frames]."""
    generator, num_mel_bins = torch.Generator().manual_seed(1), model.config.num_mel_bins
    colour = torch.randn(NUM_UTTERANCES, num_mel_bins, 1, generator=generator)
    return 3 * colour + torch.randn(NUM_UTTERANCES, num_mel_bins, 3000, generator=generator)


@contextmanager
def calls_of(module: torch.nn.Module) -> Iterator[list[Any]]:
    """The keyword arguments of all calls of a module."""
    calls: list[Any] = []
    handle = module.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
    )
    yield calls
    handle.remove()


def generate(model: Any, tokenizer: Any, input_features: torch.Tensor, num_beams: int = 1) -> torch.Tensor:
    states = whisper_generation.encode(model, {"input_features": input_features})
    return whisper_generation.generate(
        model, tokenizer, states, TASKS, language="vi", max_new_tokens=MAX_NEW_TOKENS, num_beams=num_beams
    )


def test_the_processor_is_the_published_one(
    repository: str, published: PublishedWhisper, tokenizer: Any
) -> None:
    processor = whisper_inputs.load_processor(repository)
    assert input_kind_of(processor.feature_extractor).name == f"log_mel-{published.num_mel_bins}"
    config = whisper.load_model_config(repository)
    assert len(tokenizer) == config.vocab_size == (51866 if published is LARGE_V3 else 51865)
    prompt = whisper_inputs.decoder_prompt(tokenizer, "translate", "vi")
    assert prompt == ([50258, 50278, 50359, 50364] if published is LARGE_V3 else [50258, 50278, 50358, 50363])
    ids = whisper_inputs.text_token_ids(tokenizer, "em do not deploy , it 's xong rồi .")
    assert tokenizer.decode(ids).strip() == "em do not deploy , it 's xong rồi .", "nothing is cleaned up"


def test_timestamps_never_appear_even_where_the_model_wants_nothing_else(
    model: Any, tokenizer: Any, input_features: torch.Tensor
) -> None:
    first_timestamp = tokenizer.convert_tokens_to_ids("<|0.00|>")
    wanted = torch.full((model.config.d_model,), 3.0)
    with torch.no_grad():
        model.model.decoder.layer_norm.bias.copy_(wanted)
        model.proj_out.weight[first_timestamp:] = wanted
        prompt = torch.tensor([whisper_inputs.decoder_prompt(tokenizer, "transcribe", "vi")] * NUM_UTTERANCES)
        logits = model(input_features, decoder_input_ids=prompt).logits
    assert (logits[:, -1].argmax(-1) >= first_timestamp).all(), "the model does want them"
    for num_beams in (1, 3):
        generated = generate(model, tokenizer, input_features, num_beams)
        assert generated.shape == (len(TASKS) * NUM_UTTERANCES, MAX_NEW_TOKENS)
        assert (generated < first_timestamp - 1).all(), "neither timestamps nor a second <|notimestamps|>"


def test_one_encoder_pass_serves_both_tasks_and_no_language_is_detected(
    model: Any, tokenizer: Any, input_features: torch.Tensor
) -> None:
    with calls_of(model.model.encoder) as encoder_calls:
        model.generate(input_features, max_new_tokens=2)
        assert len(encoder_calls) == 2, "stock generation detects the language with a pass of its own"
        encoder_calls.clear()
        for num_beams in (1, 3):
            generate(model, tokenizer, input_features, num_beams)
            num_encoded = [len(features) for (features,), _ in encoder_calls]
            assert num_encoded == [1] * NUM_UTTERANCES, "clip by clip on a CPU, and each of them once"
            encoder_calls.clear()


def test_after_the_prompt_the_decoder_reads_one_token_a_step(
    model: Any, tokenizer: Any, input_features: torch.Tensor
) -> None:
    with calls_of(model.model.decoder) as decoder_calls:
        generate(model, tokenizer, input_features)
    lengths = [kwargs["input_ids"].shape[1] for _, kwargs in decoder_calls]
    assert lengths == [whisper_inputs.PROMPT_LENGTH, *[1] * (MAX_NEW_TOKENS - 1)]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_both_tasks_at_once_equal_stock_generation_of_each(
    model: Any, tokenizer: Any, input_features: torch.Tensor, num_beams: int
) -> None:
    whisper.set_generation_defaults(model, "vi", "transcribe")
    ours = generate(model, tokenizer, input_features, num_beams).split(NUM_UTTERANCES)
    assert len(torch.cat(ours).unique(dim=0)) == len(TASKS) * NUM_UTTERANCES, (
        "audio and task make a difference"
    )
    first_timestamp = tokenizer.convert_tokens_to_ids("<|0.00|>")
    for task, generated in zip(TASKS, ours, strict=True):
        stock = model.generate(
            input_features,
            language="vi",
            task=task,
            num_beams=num_beams,
            max_new_tokens=MAX_NEW_TOKENS,
            suppress_tokens=list(range(first_timestamp, model.config.vocab_size)),
        )
        assert torch.equal(generated[:, : stock.shape[1]], stock)
        assert (generated[:, stock.shape[1] :] == tokenizer.pad_token_id).all()
