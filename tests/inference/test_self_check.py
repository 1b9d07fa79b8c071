"""The clip that every model is asked about, and what is recorded of its answer."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.tiny_models import whisper_model, whisper_processor
from vietst.inference.self_check import CLIP, CLIP_NAME, FOLDER, read_expected, record_self_check
from vietst.models import whisper
from vietst.models.model_record import ModelRecord, write_model_record

SPEAK = """
import sys
import numpy, soundfile, soxr
from vietst.data.sample_sentences import Sentence
from vietst.data.sample_videos import Speaker, place_in_room, speak_sentence
from vietst.data.speech_synthesis import SYNTHESIS_RATE_HZ, Synthesizer, synthesis_data
speaker = Speaker("vi", "f2", "en-us", pitch=50, pitch_range=50, rate_wpm=170, level_dbfs=-22.0,
                  signal_to_noise_db=35.0, noise_exponent=1.0)
sentence = Sentence("mình sẽ [fix] cái [bug] này trước [deadline]", "trước hạn chót mình sẽ sửa cái lỗi này")
with synthesis_data() as data_path:
    speech = speak_sentence(Synthesizer(data_path, seed=1), sentence, speaker, max_duration_s=3.5)
clip = place_in_room(speech, speaker, numpy.random.default_rng(1)).astype("float32") / 32768
clip = soxr.resample(clip, SYNTHESIS_RATE_HZ, 16_000, quality="HQ")
soundfile.write(sys.argv[1], clip, 16_000, subtype="PCM_16")
"""


def test_the_clip_is_what_the_synthesizer_says(tmp_path: Path) -> None:
    """To make another one: change `SPEAK`, and copy what it writes."""
    spoken = tmp_path / "spoken.flac"
    subprocess.run([sys.executable, "-c", SPEAK, str(spoken)], check=True)
    expected, rate_hz = soundfile.read(spoken, dtype="int16")
    clip, clip_rate_hz = soundfile.read(CLIP, dtype="int16")
    assert clip_rate_hz == rate_hz == 16_000
    np.testing.assert_allclose(clip.astype(int), expected.astype(int), atol=2)  # rounding of other machines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    processor = whisper_processor()
    model = whisper_model(processor)
    whisper.set_generation_defaults(model, "vi", "transcribe")
    record = ModelRecord(
        vietst_version="0",
        architecture="whisper",
        tasks=("transcribe", "translate"),
        language="vi",
        num_beams=1,
        max_new_tokens_per_second=1.0,
        max_new_tokens_base=4,
    )
    write_model_record(model, record)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return tmp_path


def test_what_is_recorded_is_enough_to_compare_and_holds_no_path(folder: Path) -> None:
    record_self_check(folder)
    assert (folder / FOLDER / CLIP_NAME).read_bytes() == CLIP.read_bytes()
    expected = read_expected(folder)
    assert expected is not None
    assert (expected.device, expected.dtype) == ("cpu", "float32")
    assert {"torch", "transformers", "vietst"} <= expected.versions.keys()
    assert expected.tasks.keys() == {"transcribe", "translate"}
    for said in expected.tasks.values():
        assert 0 < said["num_tokens"] <= 4 + 3
        assert said["log_probability"] < 0
    text = (folder / FOLDER / "expected.json").read_text(encoding="utf-8")
    assert str(folder) not in text
    assert json.loads(text)["tasks"] == expected.tasks


def test_a_folder_without_a_record_has_none(tmp_path: Path) -> None:
    assert read_expected(tmp_path) is None
