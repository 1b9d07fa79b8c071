"""Guide: `IndexError: piece id out of range` (E2E evaluation), mended by clipping ids before decoding.

Ids that no tokenizer knows have two causes, which clipping hides: the −100 with which transformers pads
hypotheses of different lengths, and embeddings beyond the tokenizer's last token. The first is taken out, the
second too, and counted.
"""

import numpy as np
import pytest
import torch

from tests.tiny_e2e import mbart_tokenizer
from tests.tiny_models import whisper_processor
from tests.tiny_runs import history
from vietst.constants import IGNORE_INDEX
from vietst.evaluation.decode import TextDecoder
from vietst.models.architectures import ARCHITECTURES
from vietst.training.runner import run_training


def test_hypotheses_of_different_lengths_are_scored_in_training(tiny_config, monkeypatch, no_recorded_clip):
    decoded: list[np.ndarray] = []
    decode = TextDecoder.__call__
    monkeypatch.setattr(
        TextDecoder, "__call__", lambda self, token_ids: decoded.append(token_ids) or decode(self, token_ids)
    )
    run_dir = run_training(
        tiny_config(
            "training.max_steps=1",
            "training.eval_steps=1",
            "training.eval_batch_size=1",
            "training.learning_rate=1e-12",
            "evaluation.max_new_tokens_base=1",
            "evaluation.max_new_tokens_per_second=5",
        )
    )
    [token_ids] = decoded
    assert (token_ids == IGNORE_INDEX).any(), "what this test is about"
    assert len(history(run_dir, "eval_wer")) == 1


def test_embeddings_beyond_the_tokenizer_are_left_out_of_the_texts_and_counted(
    tiny_config, architecture, evaluate
):
    """A model that has more embeddings than its tokenizer has tokens, and only ever says one of those."""
    run_dir = run_training(
        tiny_config(
            "training.max_steps=1",
            "training.eval_strategy=no",
            "training.load_best_model_at_end=false",
        )
    )
    model = ARCHITECTURES[architecture].load_model(str(run_dir))
    decoder = model if architecture == "whisper" else model.decoder
    num_tokens = decoder.get_input_embeddings().num_embeddings
    decoder.resize_token_embeddings(num_tokens + 8)
    norm = decoder.model.decoder.layer_norm
    with torch.no_grad():
        decoder.get_input_embeddings().weight[num_tokens + 3] = 1.0
        norm.weight.zero_()
        norm.bias.fill_(10.0)  # whatever was heard, this state follows
    model.save_pretrained(run_dir)
    metrics = evaluate(run_dir)
    assert metrics["num_utterances"] == 15
    # Whisper's own generation lets nothing beyond the last token before its timestamps through.
    assert (metrics["facts"]["num_ids_outside_tokenizer"] > 0) == (architecture == "e2e")


@pytest.mark.parametrize(
    "tokenizer", [whisper_processor().tokenizer, mbart_tokenizer()], ids=["whisper", "e2e"]
)
def test_what_is_unknown_is_left_out_and_counted(tokenizer):
    decode = TextDecoder(tokenizer)
    ids = tokenizer(" fix bug", add_special_tokens=False).input_ids
    assert decode([[*ids, len(tokenizer), -7, IGNORE_INDEX]]) == ["fix bug"]
    assert decode.num_unknown_ids == 2
