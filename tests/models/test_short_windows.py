"""Whisper's encoder in short windows: the first positions of its own, the same batch after batch."""

import copy

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from tests.doubled_batch import loss_and_gradients
from tests.tiny_models import cached_rows, whisper_batch, whisper_model, whisper_processor
from vietst.data.context import ContextWindows
from vietst.data.features import LOG_MEL_80_NANO
from vietst.data.packed_clips import padded_batch
from vietst.models import whisper, whisper_generation, whisper_inputs
from vietst.models.whisper_inputs import WhisperCollator

WINDOWS = ContextWindows((1.0, 2.0, 3.0), margin_s=0.2)


@pytest.fixture(scope="module")
def processor():
    return whisper_processor()


def bucketed_batch(processor, rows, windows=WINDOWS):
    collator = WhisperCollator(processor, LOG_MEL_80_NANO, ("transcribe", "translate"), "vi", windows=windows)
    batch = padded_batch(collator(rows))
    return {key: value for key, value in batch.items() if key not in ("row_index", "duration_s")}


def test_a_batch_is_cut_to_the_window_of_its_longest_clip(processor):
    rows = cached_rows(4)  # 0.8 to 2.45 s
    full, short = whisper_batch(processor, rows), bucketed_batch(processor, rows)
    assert full["input_features"].shape[-1] == 200
    assert short["input_features"].shape[-1] == 150
    assert torch.equal(short["input_features"], full["input_features"][..., :150])
    assert torch.equal(short["attention_mask"], full["attention_mask"][..., :150])
    assert bucketed_batch(processor, rows[:1])["input_features"].shape[-1] == 100


def test_a_window_as_long_as_the_models_own_gives_the_same_loss_and_gradients(processor):
    model = whisper_model(processor).train()
    rows = cached_rows(3)
    full = whisper_batch(processor, rows)
    cut = bucketed_batch(processor, rows, ContextWindows((4.0,), 0.2))
    expected_loss, expected = loss_and_gradients(model, full)
    loss, gradients = loss_and_gradients(model, cut)
    assert loss == expected_loss
    for name, gradient in expected.items():
        assert torch.equal(gradients[name], gradient), name


def test_the_positions_of_a_short_window_are_the_first_of_the_whole_one(processor):
    model = whisper_model(processor).eval()
    encoder = model.model.encoder
    heard = []
    hook = encoder.layers[0].register_forward_pre_hook(lambda _, args: heard.append(args[0]))
    features = whisper_batch(processor, cached_rows(2))["input_features"]
    with torch.no_grad():
        for num_frames in (200, 100):
            model.encode(features[..., :num_frames], None)
    hook.remove()
    full, short = heard
    assert short.shape[1] == 50
    # The convolutions of the last position look beyond the end, where there is nothing in a short window.
    torch.testing.assert_close(short[:, :-1], full[:, :49], rtol=0, atol=1e-6)
    assert not torch.allclose(short[:, -1], full[:, 49], atol=1e-4)


def test_the_path_of_short_windows_computes_what_the_stock_encoder_does(processor):
    """Of a stock encoder whose own window is the short one, with the same weights."""
    model = whisper_model(processor).eval()
    config = copy.deepcopy(model.config)
    config.max_source_positions = 50
    shorter = WhisperForConditionalGeneration(config).eval()
    weights = model.state_dict()
    weights["model.encoder.embed_positions.weight"] = weights["model.encoder.embed_positions.weight"][:50]
    shorter.load_state_dict(weights)
    features = whisper_batch(processor, cached_rows(2))["input_features"][..., :100]
    with torch.no_grad():
        states, expected = (m.model.encoder(features).last_hidden_state for m in (model, shorter))
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-6)


def test_in_one_window_a_clip_sounds_the_same_whatever_is_beside_it_and_in_another_it_does_not(processor):
    model = whisper_model(processor).eval()
    rows = cached_rows(4)
    with torch.no_grad():
        alone = model.encode(bucketed_batch(processor, rows[1:2])["input_features"], None).last_hidden_state
        pair = model.encode(bucketed_batch(processor, rows[:2])["input_features"], None).last_hidden_state
        longer = model.encode(whisper_batch(processor, rows[1:2])["input_features"], None).last_hidden_state
    torch.testing.assert_close(alone, pair[1:], rtol=0, atol=1e-5)
    # The encoder attends to the silence behind the clip.
    assert (alone - longer[:, : alone.shape[1]])[:, :20].abs().max() > 1e-3


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(processor, use_reentrant):
    model = whisper_model(processor).train()
    batch = bucketed_batch(processor, cached_rows(2))
    expected_loss, expected = loss_and_gradients(model, batch)
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    loss, gradients = loss_and_gradients(model, batch)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_masks_fall_on_real_frames_only(processor):
    model = whisper_model(
        processor, apply_spec_augment=True, mask_time_prob=0.5, mask_time_length=4, mask_feature_prob=0.0
    ).train()
    batch = bucketed_batch(processor, cached_rows(4))
    heard = []
    model.model.encoder.register_forward_pre_hook(lambda _, args: heard.append(args[0]))
    model.encode(batch["input_features"], batch["attention_mask"])
    masked, mask = (heard[0] != batch["input_features"]).any(dim=1), batch["attention_mask"].bool()
    assert masked[mask].sum() > 20
    assert not masked[~mask].any()


def test_longer_features_than_the_models_window_are_still_refused(processor):
    model = whisper_model(processor).eval()
    with pytest.raises(ValueError, match="of length 200, but found 202"):
        model.encode(torch.zeros(1, 80, 202), None)


def test_texts_are_generated_from_short_windows_and_stock_weights_stay_as_they_are(processor, tmp_path):
    model = whisper_model(processor).eval()
    names = set(model.state_dict())
    model.save_pretrained(tmp_path)
    loaded = whisper.load_model(str(tmp_path)).eval()
    assert set(loaded.state_dict()) == names
    inputs = whisper_inputs.input_batch(cached_rows(2), LOG_MEL_80_NANO)
    inputs["input_features"] = inputs["input_features"][..., :150]
    generated = whisper_generation.generate(
        loaded,
        processor.tokenizer,
        whisper_generation.encode(loaded, inputs),
        ("transcribe", "translate"),
        language="vi",
        max_new_tokens=6,
    )
    assert len(generated) == 4
