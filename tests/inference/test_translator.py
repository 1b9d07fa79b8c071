"""`SpeechTranslator`: what evaluation decodes, whatever the batch, the file, or the recording around it."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.utils.logging import warning_once as warn_once

from tests.inference.models import write_model
from tests.tiny_models import whisper_model, whisper_processor
from vietst.constants import TASKS
from vietst.data.audio import load_waveform
from vietst.data.features import extract
from vietst.data.splits import read_split_file
from vietst.errors import AudioError, ModelError, VietstError
from vietst.evaluation.model_predictions import decode_split, plan_decoding
from vietst.evaluation.scoring import SplitOptions
from vietst.inference import SpeechTranslator
from vietst.inference.results import Said, SpeechResult
from vietst.models import log_probabilities

RATE = 16_000


@pytest.fixture(scope="module", params=["whisper", "e2e"])
def model_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def translator(model_dir: Path) -> SpeechTranslator:
    return SpeechTranslator.from_pretrained(model_dir)


@pytest.fixture(scope="module")
def clips(tiny_corpus: Path) -> list[Path]:
    rows = read_split_file(tiny_corpus / "data" / "splits" / "test.csv")
    return [tiny_corpus / str(row["audio_path"]) for row in rows]


def outputs(result: SpeechResult | VietstError) -> list[dict[str, tuple[Any, ...]]]:
    """What was said in each segment, to be compared: log probabilities to three digits behind the point."""
    assert isinstance(result, SpeechResult), result
    return [
        {
            task: (said.text, said.words, said.num_tokens, pytest.approx(said.log_probability, abs=1e-3))
            for task, said in segment.said.items()
        }
        for segment in result.segments
    ]


def test_clips_give_what_evaluation_decodes(translator, model_dir, clips, tiny_corpus) -> None:
    split = SplitOptions(
        tiny_corpus / "data" / "splits" / "test.csv", tiny_corpus, batch_size=4, num_beams=None, num_workers=0
    )
    decoded = decode_split(plan_decoding(str(model_dir), split))
    expected = {row.audio_path: row for row in decoded.predictions}
    assert translator.tasks == TASKS
    for clip, result in zip(clips, translator.each(clips), strict=True):
        row = expected[clip.relative_to(tiny_corpus).as_posix()]
        assert isinstance(result, SpeechResult)
        assert (result.transcript, result.translation) == (
            row.transcript_hypothesis,
            row.translation_hypothesis,
        )
        assert result.duration_s == pytest.approx(row.duration_s, abs=1e-3)
        (segment,) = result.segments
        assert 0 <= segment.start_s < segment.end_s <= result.duration_s


def test_neither_batches_nor_tasks_nor_the_kind_of_input_change_what_is_said(translator, clips) -> None:
    clips = clips[:5]
    together = [outputs(result) for result in translator.each(clips)]
    assert len({str(output) for output in together}) > 1, "the model hears what is said"
    for clip, expected in zip(clips, together, strict=True):
        assert outputs(translator(clip)) == expected
        assert outputs(translator(clip.read_bytes())) == expected
        assert outputs(translator(load_waveform(clip), task="both")) == expected
        for task in TASKS:
            alone = translator(clip, task=task)
            assert alone.tasks == (task,)
            assert outputs(alone) == [{task: segment[task]} for segment in expected]


def test_what_beams_find_does_not_depend_on_longer_clips_beside_it(model_dir, clips) -> None:
    """Untrained models say nothing's end: every hypothesis ends at the cap of its clip."""
    translator = SpeechTranslator.from_pretrained(model_dir)
    decoder = translator._decoder
    object.__setattr__(decoder, "record", decoder.record.model_copy(update={"num_beams": 3}))
    together = [outputs(result) for result in translator.each(clips[:5])]
    assert [outputs(translator(clip)) for clip in clips[:5]] == together


@pytest.mark.parametrize("num_beams", [1, 3])
def test_log_probabilities_are_those_of_the_generated_tokens(
    model_dir, clips, num_beams, monkeypatch
) -> None:
    """One clip, one task, one token after the other, without any cache of keys and values."""
    if num_beams > 1:  # the same by slices of two hypotheses
        monkeypatch.setattr(log_probabilities, "MAX_CHUNK_LOGITS", 100_000)
    translator = SpeechTranslator.from_pretrained(model_dir)
    decoder = translator._decoder
    architecture, model, tokenizer = decoder.architecture, decoder.model, decoder.tokenizer
    object.__setattr__(decoder, "record", decoder.record.model_copy(update={"num_beams": num_beams}))
    results = list(translator.each(clips[:3]))
    for clip, result in zip(clips, results, strict=False):
        waveform = load_waveform(clip)
        features = extract(waveform, decoder.input_kind)
        row = {
            "features": features.values.astype("<f2").tobytes(),
            "num_frames": len(features.values),
            "pad_value": features.pad_value,
        }
        states = architecture.encode(model, architecture.input_batch([row], decoder.input_kind))
        for task in TASKS:
            said: Said = result.segments[0].said[task]
            tokens = architecture.generate(
                *(model, tokenizer, states, (task,)),
                language="vi",
                max_new_tokens=[math.ceil(4 * len(waveform) / RATE) + 4],
                num_beams=num_beams,
            )[0, : said.num_tokens].tolist()
            prompt = architecture.decoder_prompt(tokenizer, task, "vi")
            log_probability = 0.0
            for position, token in enumerate(tokens):
                before = torch.tensor([prompt + tokens[:position]])
                with torch.no_grad():
                    logits = model(encoder_outputs=states, decoder_input_ids=before, use_cache=False).logits
                log_probability += float(logits[0, -1].double().log_softmax(-1)[token])
            assert said.log_probability == pytest.approx(log_probability, abs=2e-3)
            assert said.confidence == pytest.approx(math.exp(log_probability / len(tokens)), rel=1e-3)


def test_a_long_recording_is_its_clips_one_after_the_other(translator, clips) -> None:
    pause = np.random.default_rng(0).normal(0, 1e-4, RATE).astype(np.float32)
    sounds = [load_waveform(clip) for clip in clips[:6]]
    recording = np.concatenate([part for sound in sounds for part in (pause, sound)])
    result = translator(recording, max_segment_s=4)
    assert result.duration_s == pytest.approx(len(recording) / RATE)
    assert len(result.segments) == 6
    assert result.transcript == " ".join(
        text for segment in result.segments if (text := segment.said["transcribe"].text)
    )
    position = 0
    for sound, segment in zip(sounds, result.segments, strict=True):
        position += len(pause)
        start_s = position / RATE
        position += len(sound)
        assert start_s - 0.1 < segment.start_s < segment.end_s < position / RATE + 0.2
    again = translator(recording, max_segment_s=4, task="translate")
    assert [s.said["translate"].text for s in again.segments] == [
        s.said["translate"].text for s in result.segments
    ]


def test_a_recording_that_cannot_be_read_does_not_stop_the_others(translator, clips, tmp_path) -> None:
    (tmp_path / "notes.wav").write_text("no sound", encoding="utf-8")
    audios = [clips[0], tmp_path / "gone.wav", tmp_path / "notes.wav", clips[1], clips[2].read_bytes()[:9000]]
    results = list(translator.each(audios))
    assert [isinstance(result, AudioError) for result in results] == [False, True, True, False, True]
    assert "gone.wav" in str(results[1])
    assert outputs(results[3]) == outputs(translator(clips[1]))
    with pytest.raises(AudioError, match=r"gone\.wav"):
        translator(tmp_path / "gone.wav")


@pytest.mark.parametrize("seconds", [0.001, 0.3, 3.0, 90.0])
def test_where_nobody_speaks_there_are_no_segments(translator, seconds) -> None:
    noise = np.random.default_rng(0).normal(0, 1e-3, round(seconds * RATE)).astype(np.float32)
    for sound in (np.zeros_like(noise), noise):
        result = translator(sound)
        assert (result.segments, result.transcript, result.translation) == ((), "", "")
        assert result.duration_s == pytest.approx(seconds)


def test_nothing_is_printed_that_the_user_could_not_mend(translator, clips) -> None:
    warned: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warned.append(record.getMessage())
    logger = logging.getLogger("transformers")
    level = logger.level
    warn_once.cache_clear()
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    try:
        list(translator.each(clips[:2]))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert warned == []


def test_recordings_are_taken_one_by_one_and_not_all_before_the_first_result(model_dir, clips) -> None:
    translator = SpeechTranslator.from_pretrained(model_dir)
    translator._batch_budget_s = 8.0
    taken: list[Path] = []

    def endless():
        while True:
            for clip in clips:
                taken.append(clip)
                yield clip

    results = translator.each(endless())
    assert taken == []
    first = [next(results) for _ in range(3)]
    assert len(taken) < 40
    assert all(isinstance(result, SpeechResult) for result in first)


def test_an_answer_that_needs_no_decoding_does_not_wait_for_the_next_recording(translator) -> None:
    def silent_ones():
        yield np.zeros(RATE, np.float32)
        pytest.fail("asked for the next one")

    assert next(translator.each(silent_ones())).segments == ()


def test_batches_that_do_not_fit_the_gpu_are_decoded_in_halves(model_dir, clips, monkeypatch) -> None:
    translator = SpeechTranslator.from_pretrained(model_dir)
    expected = [outputs(result) for result in translator.each(clips[:5])]
    decode, sizes = translator._decoder, []

    def small(waveforms, tasks):
        sizes.append(len(waveforms))
        if len(waveforms) > 2:
            kind = torch.OutOfMemoryError if len(waveforms) == 5 else RuntimeError  # as on a Mac
            raise kind("out of memory")
        return decode(waveforms, tasks)

    small.cost_s, small.hears_windows = decode.cost_s, decode.hears_windows
    small.record, small.input_kind, small.model = decode.record, decode.input_kind, decode.model
    monkeypatch.setattr(translator, "_decoder", small)
    assert [outputs(result) for result in translator.each(clips[:5])] == expected
    assert sizes == [5, 2, 3, 1, 2]


def test_a_task_that_was_not_trained_is_refused_before_any_recording_is_read(tmp_path) -> None:
    translator = SpeechTranslator.from_pretrained(write_model(tmp_path, "whisper", tasks=("translate",)))
    assert translator.tasks == ("translate",)
    for task in ("transcribe", "both", "summarize"):
        with pytest.raises(ModelError, match="trained for: translate"):
            translator("not-there.wav", task=task)


def test_a_stock_whisper_transcribes_and_its_translate_is_refused(tmp_path, clips) -> None:
    processor = whisper_processor()
    whisper_model(processor).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    translator = SpeechTranslator.from_pretrained(tmp_path)
    assert translator.tasks == ("transcribe",)
    assert translator(clips[0]).translation is None
    with pytest.raises(ModelError, match="speak English"):
        translator(clips[0], task="both")


def test_device_and_dtype_are_chosen_or_named(model_dir, clips) -> None:
    chosen = SpeechTranslator.from_pretrained(str(model_dir))
    assert (chosen.device.type, chosen.model_name) == ("cpu", str(model_dir))
    half = SpeechTranslator.from_pretrained(model_dir, device="cpu", dtype=torch.bfloat16)
    said = half(clips[0]).segments[0].said["transcribe"]
    expected = chosen(clips[0]).segments[0].said["transcribe"]
    assert said.log_probability == pytest.approx(expected.log_probability, rel=0.2)
    assert said.log_probability != expected.log_probability


@pytest.mark.parametrize("limit_s", [0.5, -7.0, float("nan")])
def test_segments_of_less_than_a_second_are_refused(translator, limit_s) -> None:
    with pytest.raises(VietstError, match="7 suits subtitles"):
        translator(np.zeros(RATE, np.float32), max_segment_s=limit_s)


def test_what_is_no_model_is_refused(tmp_path) -> None:
    with pytest.raises(ModelError):
        SpeechTranslator.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match="cache"):
        SpeechTranslator.from_pretrained("nobody/has-this-model")
