"""SpecAugment's masks follow the law of transformers' own, and are drawn without waiting for a GPU."""

import numpy as np
import pytest
import torch
from transformers.models.whisper.modeling_whisper import _compute_mask_indices

from tests.tiny_e2e import write_encoder
from tests.tiny_models import cached_rows, whisper_batch, whisper_model, whisper_processor
from vietst.models.spec_augment import span_mask
from vietst.models.wav2vec2 import LengthTrueWav2Vec2

NUM_FRAMES = 60
NUM_REAL = [60, 37, 12, 5, 2]
"""The first clip has no padding, the last is shorter than a span of most laws here."""

NUM_DRAWS = 2000

LAWS = {
    "usual": (0.3, 5, 0),
    "rare": (0.02, 4, 0),
    "at least two": (0.05, 10, 2),
    "crowded": (0.9, 7, 0),
    "single frames": (0.5, 1, 0),
    "longer than the window": (0.5, 61, 2),
}


def transformers_masks(share: float, length: int, min_spans: int) -> np.ndarray:
    """bool [draws, clips, frames], what it does in padding left out; there it has a dummy."""
    if length > NUM_FRAMES:  # which it refuses
        return np.zeros((NUM_DRAWS, len(NUM_REAL), NUM_FRAMES), bool)
    real = torch.arange(NUM_FRAMES) < torch.tensor(NUM_REAL)[:, None]
    np.random.seed(0)
    masks = [
        _compute_mask_indices((len(NUM_REAL), NUM_FRAMES), share, length, real, min_spans)
        for _ in range(NUM_DRAWS)
    ]
    return np.array(masks) & real.numpy()


def our_masks(*law: float) -> np.ndarray:
    torch.manual_seed(0)
    num_real = torch.tensor(NUM_REAL).repeat(NUM_DRAWS)
    return span_mask(num_real, NUM_FRAMES, *law).view(NUM_DRAWS, len(NUM_REAL), NUM_FRAMES).numpy()


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_every_frame_is_masked_as_often_as_in_transformers_and_clips_have_as_much_of_it(law):
    ours, theirs = our_masks(*law), transformers_masks(*law)
    standard_error = np.sqrt(0.25 / NUM_DRAWS)
    assert np.abs(ours.mean(0) - theirs.mean(0)).max() < 5 * np.sqrt(2) * standard_error
    for clip in range(len(NUM_REAL)):  # how many frames of a clip are masked: the two distributions
        ours_at_most, theirs_at_most = (
            np.cumsum(np.bincount(masks[:, clip].sum(-1), minlength=NUM_FRAMES + 1)) / NUM_DRAWS
            for masks in (ours, theirs)
        )
        assert np.abs(ours_at_most - theirs_at_most).max() < 5 * np.sqrt(2) * standard_error


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_masks_are_whole_spans_of_real_frames(law):
    _, length, _ = law
    for clip, num_real in enumerate(NUM_REAL):
        masks = our_masks(*law)[:, clip]
        assert not masks[:, num_real:].any()
        edges = np.diff(np.pad(masks, ((0, 0), (1, 1))).astype(int), axis=1)
        runs = np.argwhere(edges == -1)[:, 1] - np.argwhere(edges == 1)[:, 1]
        assert (runs >= length).all()


def test_clips_draw_for_themselves_and_the_generator_alone_decides():
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(span_mask(torch.full((2,), NUM_FRAMES), NUM_FRAMES, 0.3, 5, 0))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0][0], drawn[0][1])


def test_nothing_waits_for_the_device():
    """On a device without values, whatever asks for one fails."""
    mask = span_mask(torch.tensor(NUM_REAL, device="meta"), NUM_FRAMES, 0.3, 5, 2)
    assert mask.is_meta
    assert mask.shape == (len(NUM_REAL), NUM_FRAMES)


def test_whisper_hears_nothing_in_masked_frames_and_mel_bins_and_its_batch_stays_as_it_is():
    processor = whisper_processor()
    model = whisper_model(
        processor, apply_spec_augment=True, mask_time_prob=0.3, mask_feature_prob=0.3, mask_feature_length=4
    )
    batch = whisper_batch(processor, cached_rows(3))
    features, mask = batch["input_features"], batch["attention_mask"].bool()
    before = features.clone()
    heard: list[torch.Tensor] = []
    model.model.encoder.register_forward_pre_hook(lambda _, args: heard.append(args[0]))
    for training in (True, False):
        model.train(training).encode(features, batch["attention_mask"])
    masked, whole = heard
    assert torch.equal(whole, before)
    assert torch.equal(features, before)
    changed = masked != before
    assert not masked[changed].any()
    assert changed.all(dim=1)[mask].any()  # whole frames
    assert changed.all(dim=2).any()  # whole mel bins, padding and all
    assert not changed.all(dim=1)[~mask].any()


def test_wav2vec2_hears_its_mask_vector_in_masked_frames_and_nothing_in_masked_channels(tmp_path):
    model = LengthTrueWav2Vec2.from_pretrained(
        write_encoder(
            tmp_path, mask_time_prob=0.3, mask_time_length=4, mask_feature_prob=0.2, mask_feature_length=4
        )
    ).train()
    states, mask = torch.randn(2, 50, model.config.hidden_size), torch.arange(50) < torch.tensor([[50], [30]])
    masked = model._mask_hidden_states(states, attention_mask=mask)
    channels = (masked == 0).all(dim=1)  # [num_utterances, width]
    assert channels.any()
    vector = model.masked_spec_embed.expand_as(states).masked_fill(channels[:, None], 0.0)
    is_vector = (masked == vector).all(dim=2)
    assert is_vector[mask].any()
    assert not is_vector[~mask].any()
    kept = ~is_vector[..., None] & ~channels[:, None]
    assert torch.equal(masked[kept], states[kept])
    assert torch.equal(model.eval()._mask_hidden_states(states, attention_mask=mask), states)
