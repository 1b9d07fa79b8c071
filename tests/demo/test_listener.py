"""What the page says about a recording, without a browser."""

import base64
import re
import threading
import time
from html import escape
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vietst.constants import TASKS
from vietst.demo.listener import Limits, Listener, in_words
from vietst.evaluation.word_language import tag_words
from vietst.inference.results import Said, Segment, SpeechResult
from vietst.inference.transcript_files import FORMATS

HOSTILE = '<script>alert(1)</script> & "fix" cái bug ${1+1} {{1+1}}'


def result_of(text: str) -> SpeechResult:
    said = Said(text, tuple(tag_words(text)), 4, -1.0)
    return SpeechResult(1.0, TASKS, (Segment(59.96, 61.5, dict.fromkeys(TASKS, said)),))


class Speaker:
    """A translator that says one text, and counts who calls it at the same time."""

    tasks = TASKS
    model_name, device = "tiny", "cpu"

    def __init__(self, text: str = HOSTILE) -> None:
        self.text = text
        self.calls, self.most_at_once = 0, 0

    def __call__(self, audio: Path, /, *, max_segment_s: float | None) -> SpeechResult:
        self.calls += 1
        self.most_at_once = max(self.most_at_once, self.calls)
        time.sleep(0.05)
        self.calls -= 1
        return result_of(self.text)


class Broken(Speaker):
    def __call__(self, audio: Path, /, *, max_segment_s: float | None) -> SpeechResult:
        raise RuntimeError("out of memory at /secret/path")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / 'my "clip" <b>.wav'
    soundfile.write(path, 0.1 * np.ones(16_000, dtype=np.float32), 16_000)
    return path


LIMITS = Limits(max_upload_mb=0.1, max_duration_s=2.0)


def test_every_text_is_escaped_and_every_english_word_marked(clip: Path) -> None:
    page = Listener(Speaker(), LIMITS).hear(str(clip))
    assert "<script" not in page
    assert "<b>" not in page
    assert 'download="my &#34;clip&#34; &lt;b&gt;.srt"' in page
    marks = re.findall(r'<mark lang="en">(.*?)</mark>', page)
    script = escape("<script>alert(1)</script>")
    assert marks == ["marked", script, "fix", "bug"], "the first is the legend"
    translation = re.search(r'<div class="translation">.*?<dd lang="vi">(.*?)</dd>', page, re.DOTALL)
    assert translation is not None
    assert translation[1] == escape(HOSTILE).replace("&quot;", "&#34;")
    assert "1:00.0" in page
    assert "1:01.5" in page


@pytest.mark.parametrize("name", ["srt", "vtt", "txt"])
def test_downloads_are_the_transcript_files(clip: Path, name: str) -> None:
    page = Listener(Speaker(), LIMITS).hear(str(clip))
    encoded = re.search(rf'\.{name}" href="data:[^;]+;charset=utf-8;base64,([^"]*)"', page)
    assert encoded is not None
    assert base64.b64decode(encoded[1]).decode() == FORMATS[name](result_of(HOSTILE))


def test_what_cannot_be_heard_is_a_sentence(clip: Path, tmp_path: Path) -> None:
    listener = Listener(Speaker(), LIMITS)

    def problem(path: Path | None) -> str:
        said = re.fullmatch(r'<p class="problem" role="alert">(.*)</p>\s*', listener.hear(path and str(path)))
        assert said is not None
        return said[1]

    long, large, broken = tmp_path / "long.flac", tmp_path / "large.wav", tmp_path / "broken.wav"
    soundfile.write(long, np.zeros(48_000, dtype=np.float32), 16_000)
    soundfile.write(large, np.zeros(80_000, dtype=np.float32), 16_000)
    broken.write_bytes(clip.read_bytes()[:1000])
    assert problem(None) == "Please record something or choose a file first."
    assert problem(long) == "This recording is too long: the limit is 2 seconds."
    assert problem(large) == "This file is too large: the limit is 0.1 MB."
    assert "cut off" in problem(broken)
    assert "deleted" in problem(tmp_path / "gone.wav")


def test_a_fault_of_the_program_is_a_sentence_too_and_tells_nothing_of_the_machine(
    clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Listener(Broken(), LIMITS).hear(str(clip))
    assert "Something went wrong here" in page
    assert "secret" not in page
    assert "out of memory at /secret/path" in capsys.readouterr().err


def test_the_model_is_called_by_one_user_at_a_time(clip: Path) -> None:
    speaker = Speaker()
    listener = Listener(speaker, LIMITS)
    users = [threading.Thread(target=listener.hear, args=(str(clip),)) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert speaker.most_at_once == 1


def test_limits_are_said_as_people_say_them() -> None:
    assert [in_words(seconds) for seconds in (600, 60, 90, 2.5)] == [
        "10 minutes",
        "1 minute",
        "90 seconds",
        "2.5 seconds",
    ]
