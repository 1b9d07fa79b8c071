"""A model that was trained in short windows is used in them, or in its own where that is asked for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from tests.inference.models import write_model
from vietst.data.context import ContextWindows
from vietst.data.splits import read_split_file
from vietst.errors import ModelError
from vietst.evaluation.model_predictions import decode_split, plan_decoding
from vietst.evaluation.scoring import SplitOptions
from vietst.inference import SpeechTranslator
from vietst.inference.self_check import record_self_check
from vietst.inference.translator import SpeechResult
from vietst.models.short_windows import _ShortWindowEncoder

WINDOWS = ContextWindows((2.2, 2.5, 3.2), margin_s=0.2)
FULL = 200


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("windows"), "whisper", context=WINDOWS)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(clips, frames) of every encoder pass."""
    passes: list[tuple[int, int]] = []
    original = _ShortWindowEncoder.forward

    def forward(self: _ShortWindowEncoder, features: torch.Tensor, *args: object) -> object:
        passes.append((features.shape[0], features.shape[-1]))
        return original(self, features, *args)

    monkeypatch.setattr(_ShortWindowEncoder, "forward", forward)
    return passes


def texts(results: Iterator[object]) -> list[tuple[str | None, str | None]]:
    said = []
    for result in results:
        assert isinstance(result, SpeechResult)
        said.append((result.transcript, result.translation))
    return said


def test_each_clip_is_heard_in_its_own_window_whatever_is_beside_it(model_dir, tiny_corpus, heard) -> None:
    test_csv = tiny_corpus / "data" / "splits" / "test.csv"
    rows = read_split_file(test_csv)
    clips = [tiny_corpus / str(row["audio_path"]) for row in rows]
    translator = SpeechTranslator.from_pretrained(model_dir)
    assert translator.context == "bucketed", "as it was trained"
    said = texts(translator.each(clips))
    assert {frames for _, frames in heard} > {110, 160}, "short and long windows"
    assert FULL not in {frames for _, frames in heard}
    assert [said[0], said[5]] == [*texts(translator.each(clips[:1])), *texts(translator.each(clips[5:6]))]
    plan = plan_decoding(str(model_dir), SplitOptions(test_csv, tiny_corpus, 4, None, 0))
    assert plan.options.context == WINDOWS
    decoded = decode_split(plan).predictions
    assert [(row.transcript_hypothesis, row.translation_hypothesis) for row in decoded] == said


def test_the_whole_window_is_heard_where_it_is_asked_for(model_dir, tiny_corpus, heard, tmp_path) -> None:
    test_csv = tiny_corpus / "data" / "splits" / "test.csv"
    clips = [tiny_corpus / str(row["audio_path"]) for row in read_split_file(test_csv)[:4]]
    whole = write_model(tmp_path, "whisper")
    expected = texts(SpeechTranslator.from_pretrained(whole).each(clips))
    assert texts(SpeechTranslator.from_pretrained(model_dir, context="full").each(clips)) == expected
    plan = plan_decoding(str(model_dir), SplitOptions(test_csv, tiny_corpus, 8, None, 0, "full"))
    assert plan.options.context is None
    record_self_check(model_dir)
    assert {frames for _, frames in heard} == {FULL}


def test_a_model_that_was_not_trained_in_windows_is_heard_in_them_with_a_warning(tmp_path, caplog) -> None:
    whole = write_model(tmp_path, "whisper")
    assert SpeechTranslator.from_pretrained(whole).context == "full"
    asked = SpeechTranslator.from_pretrained(whole, context="bucketed")
    assert asked.context == "bucketed"
    assert asked._decoder.context.windows_s == (3.0, 4.0)
    assert "was not trained in short windows" in caplog.text
    with pytest.raises(ModelError, match="bucketed is for Whispers"):
        SpeechTranslator.from_pretrained(write_model(tmp_path / "e2e", "e2e"), context="bucketed")


def test_stock_transformers_uses_the_whole_window(model_dir) -> None:
    stock = WhisperForConditionalGeneration.from_pretrained(model_dir)
    assert stock.model.encoder.embed_positions.weight.shape[0] == FULL // 2
    assert (
        stock(torch.zeros(1, 80, FULL), decoder_input_ids=torch.ones(1, 1, dtype=torch.long)).logits.ndim == 3
    )
