"""Generation that shares encoder states says what stock generation says, which copies them for every row."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput

from tests.inference.models import write_model
from tests.tiny_e2e import waveform_rows
from tests.tiny_models import cached_rows
from vietst.constants import TASKS
from vietst.data.features import LOG_MEL_80_NANO, WAVEFORM_16K
from vietst.models.architectures import ARCHITECTURES, Architecture
from vietst.models.log_probabilities import log_probabilities
from vietst.models.multitask import EncoderStates
from vietst.models.shared_states import SharedStatesCache

NUM_UTTERANCES, MAX_NEW_TOKENS = 3, 14


@pytest.fixture(scope="module", params=["whisper", "e2e"])
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return ARCHITECTURES[request.param]


@pytest.fixture(scope="module")
def folder(architecture: Architecture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp(architecture.name), architecture.name)


@pytest.fixture(scope="module")
def tokenizer(architecture: Architecture, folder: Path) -> Any:
    return architecture.load_processor(str(folder)).tokenizer


@pytest.fixture
def model(architecture: Architecture, folder: Path) -> Any:
    """Whose texts depend on the clip, the task and the position."""
    model = architecture.load_model(str(folder)).eval()
    if architecture.name == "e2e":
        decoder = model.decoder.model.decoder
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            decoder.embed_positions.weight.normal_(generator=generator)
            for layer in decoder.layers:
                layer.encoder_attn.out_proj.weight.mul_(5)
    return model


@pytest.fixture
def states(architecture: Architecture, model: Any) -> EncoderStates:
    """Of clips of different lengths."""
    if architecture.name == "whisper":
        batch = architecture.input_batch(cached_rows(NUM_UTTERANCES), LOG_MEL_80_NANO)
    else:
        batch = architecture.input_batch(waveform_rows(NUM_UTTERANCES), WAVEFORM_16K)
    found: EncoderStates = architecture.encode(model, batch)
    return found


def shared(architecture: Architecture, model: Any, tokenizer: Any, states: EncoderStates, beams: int) -> Any:
    return architecture.generate(
        *(model, tokenizer, states, TASKS),
        language="vi",
        max_new_tokens=MAX_NEW_TOKENS,
        num_beams=beams,
    )


@torch.no_grad()
def stock(architecture: Architecture, model: Any, tokenizer: Any, states: EncoderStates, beams: int) -> Any:
    """transformers' own loop, processors, cache and cross-attention, which know of no sharing."""
    prompts = [architecture.decoder_prompt(tokenizer, task, "vi") for task in TASKS]
    copies = {name: torch.cat([tensor] * len(TASKS)) for name, tensor in states.items()}
    options: dict[str, Any] = {"encoder_outputs": EncoderStates(**copies)}
    if architecture.name == "whisper":
        first_timestamp = tokenizer.convert_tokens_to_ids("<|0.00|>")
        timestamps = range(first_timestamp, model.config.vocab_size)
        own = model.generation_config.suppress_tokens or []
        options = {
            "encoder_outputs": BaseModelOutput(copies["last_hidden_state"]),
            "suppress_tokens": [*own, *timestamps],
        }
    generated = GenerationMixin.generate(
        model,
        decoder_input_ids=torch.tensor(prompts).repeat_interleave(len(states.last_hidden_state), 0),
        decoder_start_token_id=prompts[0][0],
        max_length=len(prompts[0]) + MAX_NEW_TOKENS,
        num_beams=beams,
        **options,
    )
    return generated[:, len(prompts[0]) :]


@pytest.mark.parametrize(("beams", "attention"), [(1, "sdpa"), (3, "sdpa"), (3, "eager")])
def test_tokens_are_those_of_stock_generation(
    architecture, model, tokenizer, states, beams, attention
) -> None:
    model.set_attn_implementation(attention)
    expected = stock(architecture, model, tokenizer, states, beams)
    assert len(expected.unique(dim=0)) > NUM_UTTERANCES, "audio and task make a difference"
    assert torch.equal(shared(architecture, model, tokenizer, states, beams), expected)


@pytest.mark.parametrize("beams", [1, 3])
def test_hypotheses_end_where_those_of_stock_generation_do(
    architecture, model, tokenizer, states, beams
) -> None:
    said = stock(architecture, model, tokenizer, states, beams).unique().tolist()
    num_ended = []
    for end_token_id in said[:5]:
        model.generation_config.eos_token_id = end_token_id
        expected = stock(architecture, model, tokenizer, states, beams)
        num_ended.append(int((expected == end_token_id).any(dim=1).sum()))
        assert torch.equal(shared(architecture, model, tokenizer, states, beams), expected)
    assert any(0 < ended < len(TASKS) * NUM_UTTERANCES for ended in num_ended), "some rows end before others"


@pytest.mark.parametrize("beams", [1, 3])
def test_what_a_model_suppresses_is_not_said(architecture, model, tokenizer, states, beams) -> None:
    wanted = stock(architecture, model, tokenizer, states, beams)
    model.generation_config.begin_suppress_tokens = [first := int(wanted[0, 0])]
    model.generation_config.suppress_tokens = [never := int(wanted[0, 2])]
    said = shared(architecture, model, tokenizer, states, beams)
    assert (said[:, 0] != first).all()
    assert (said != never).all()
    assert torch.equal(said, stock(architecture, model, tokenizer, states, beams))


@pytest.mark.parametrize("beams", [1, 3])
def test_a_model_that_was_saved_with_use_cache_off_says_and_judges_the_same(
    architecture, model, tokenizer, states, beams
) -> None:
    """As many fine-tuned models are: training turned it off, and their files say so."""
    said = shared(architecture, model, tokenizer, states, beams)
    judged = judge(architecture, model, tokenizer, states, said)
    for config in (model.config, model.get_decoder().config, model.generation_config):
        config.use_cache = False
    assert torch.equal(shared(architecture, model, tokenizer, states, beams), said)
    torch.testing.assert_close(judge(architecture, model, tokenizer, states, said), judged)


def judge(architecture: Architecture, model: Any, tokenizer: Any, states: EncoderStates, said: Any) -> Any:
    """Log-probabilities, on keys and values that no generation has made."""
    prompts = [architecture.decoder_prompt(tokenizer, task, "vi") for task in TASKS]
    lengths = torch.full((len(said),), said.shape[1])
    return log_probabilities(model, SharedStatesCache(states), prompts, said, lengths)


@pytest.mark.parametrize("beams", [1, 3])
def test_keys_and_values_are_made_once_for_every_utterance(
    architecture, model, tokenizer, states, beams
) -> None:
    decoder = model.model.decoder if architecture.name == "whisper" else model.decoder.model.decoder
    projected: list[int] = []
    for layer in decoder.layers:
        for projection in (layer.encoder_attn.k_proj, layer.encoder_attn.v_proj):
            projection.register_forward_hook(lambda _, args, output: projected.append(len(output)))
    shared(architecture, model, tokenizer, states, beams)
    assert projected == [NUM_UTTERANCES] * 2 * len(decoder.layers)
