"""Every dev utterance is scored once, losses are weighed by tokens, each task has its own reference."""

import logging

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from tests.tiny_models import cached_rows, whisper_processor
from vietst.evaluation.decode import TextDecoder, cut_at_own_cap, max_new_tokens
from vietst.models.whisper_inputs import text_token_ids
from vietst.training.dev_scores import make_compute_metrics

TASKS = ("transcribe", "translate")


@pytest.fixture(scope="module")
def processor():
    return whisper_processor()


def evaluated(processor, rows, order, losses, num_tokens):
    """What `prediction_step` would hand over, for perfect hypotheses of rows in `order`, both tasks."""
    pairs = [(row, task) for task in range(2) for row in order]
    columns = ("transcript", "translation")
    ids = [text_token_ids(processor.tokenizer, rows[row][columns[task]]) for row, task in pairs]
    longest = max(map(len, ids))
    generated = np.array([[*tokens, *[-100] * (longest - len(tokens))] for tokens in ids])
    identity = np.array([[row, task, num_tokens[row]] for row, task in pairs])
    return EvalPrediction(
        predictions=(generated, np.array([[losses[row]] for row, _ in pairs])), label_ids=identity
    )


def test_rows_that_a_sampler_repeated_are_scored_once(processor):
    rows = cached_rows(4)
    compute = make_compute_metrics(rows, TextDecoder(processor.tokenizer), TASKS)
    losses, num_tokens = [1.0, 2.0, 3.0, 4.0], [5, 5, 5, 5]
    once = compute(evaluated(processor, rows, [0, 1, 2, 3], losses, num_tokens))
    repeated = compute(evaluated(processor, rows, [0, 1, 2, 3, 3, 3], losses, num_tokens))
    assert repeated == once
    assert once["num_utterances"] == 4
    assert once["wer"] == 0
    assert once["bleu"] == pytest.approx(100)


def test_the_loss_is_weighed_by_tokens_not_by_batches(processor):
    rows = cached_rows(2)
    compute = make_compute_metrics(rows, TextDecoder(processor.tokenizer), TASKS)
    metrics = compute(evaluated(processor, rows, [0, 1], [10.0, 1.0], [1, 9]))
    assert metrics["loss"] == pytest.approx(11 / 10)
    assert metrics["loss_transcribe"] == pytest.approx(11 / 10)


def test_transcripts_and_translations_are_scored_against_their_own_references(processor):
    """The guide scored both halves of the doubled batch with one prompt."""
    rows = cached_rows(4)
    swapped = [{**row, "transcript": row["translation"], "translation": row["transcript"]} for row in rows]
    compute = make_compute_metrics(rows, TextDecoder(processor.tokenizer), TASKS)
    metrics = compute(evaluated(processor, swapped, [0, 1, 2, 3], [1.0] * 4, [1] * 4))
    assert metrics["wer"] > 10
    assert metrics["bleu"] < 90


@pytest.fixture
def warnings_of_package(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("vietst"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        yield caplog


@pytest.mark.parametrize(("num_empty", "warns"), [(1, False), (2, True)])
def test_alarms_are_counted_and_warn_with_an_example_from_a_share_on(
    processor, warnings_of_package, num_empty, warns
):
    """One of 20 hypotheses is no larger share than the 5 % that are let pass."""
    rows = cached_rows(20)
    texts = [row[column] for row in rows for column in ("transcript", "translation")]
    texts[: 2 * num_empty : 2] = [""] * num_empty
    compute = make_compute_metrics(rows, lambda token_ids: texts, TASKS)
    metrics = compute(evaluated(processor, rows, list(range(20)), [1.0] * 20, [1] * 20))
    assert metrics["alarm_empty_outputs"] == num_empty
    assert metrics["alarm_sign_offs"] == 0
    assert ("Empty outputs: 2 of 20 transcripts, e.g. " in warnings_of_package.text) == warns
    assert bool(warnings_of_package.records) == warns


def test_the_cap_on_new_tokens_grows_with_the_audio():
    assert max_new_tokens(2.5, 12, 20) == 50
    assert max_new_tokens(0.0, 12, 20) == 20


def test_a_hypothesis_ends_at_its_own_cap_whatever_longer_clip_is_in_its_batch():
    generated = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 8], [1, 2, 3, 4], [1, 2, 3, 4]])  # 2 clips, 2 tasks
    cut = cut_at_own_cap(generated, caps=[4, 2], pad_token_id=0)
    assert cut.tolist() == [[5, 6, 7, 8], [5, 6, 0, 0], [1, 2, 3, 4], [1, 2, 0, 0]]
