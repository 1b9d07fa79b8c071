"""Label smoothing is that of Szegedy et al. 2016, in training only, at no prompt and no padding."""

import pytest
import torch

from tests.doubled_batch import logits_of
from tests.tiny_e2e import e2e_batch, waveform_rows, write_base
from tests.tiny_models import cached_rows, whisper_batch, whisper_model, whisper_processor
from vietst.constants import IGNORE_INDEX
from vietst.models import e2e, e2e_inputs
from vietst.models.multitask import LossWeights


@pytest.fixture(params=["whisper", "e2e"])
def model_and_batch(request, tmp_path):
    torch.manual_seed(0)
    if request.param == "whisper":
        processor = whisper_processor()
        return whisper_model(processor), whisper_batch(processor, cached_rows(3))
    base = str(write_base(tmp_path))
    return e2e.load_model(base), e2e_batch(e2e_inputs.load_processor(base), waveform_rows(3))


def test_a_share_of_the_probability_is_spread_over_all_tokens(model_and_batch):
    model, batch = model_and_batch
    smoothing = 0.1
    model.loss_weights = LossWeights(label_smoothing=smoothing)
    smoothed, plain = model.train()(**batch), model.eval()(**batch)
    is_label = batch["labels"] != IGNORE_INDEX
    log_probabilities = logits_of(model, batch).log_softmax(-1)[is_label]
    of_labels = log_probabilities.gather(-1, batch["labels"][is_label][:, None])[:, 0]
    of_all = log_probabilities.mean(-1)
    torch.testing.assert_close(plain.loss, -of_labels.mean())
    torch.testing.assert_close(smoothed.loss, -((1 - smoothing) * of_labels + smoothing * of_all).mean())
