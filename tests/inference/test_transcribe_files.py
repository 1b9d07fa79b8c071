"""Plans and outcomes on real files, with a translator that says what the files hold."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from vietst.constants import TRANSCRIBE
from vietst.errors import VietstError
from vietst.inference.named_recordings import find_recordings
from vietst.inference.output_record import RECORD_NAME
from vietst.inference.results import Said, Segment, SpeechResult
from vietst.inference.transcribe_files import (
    Options,
    Outcome,
    Plan,
    describe_outcome,
    describe_plan,
    header_duration_s,
    make_plan,
    run_jobs,
    segment_limit_s,
)

OPTIONS = Options(model="commit 1", tasks=(TRANSCRIBE,), max_segment_s=None, context="full")
OF_ANOTHER_MODEL = dataclasses.replace(OPTIONS, model="commit 2")


class Reader:
    """Says the name of each file; one that is called bad is an error."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def each(
        self,
        audios: Iterable[Path],
        *,
        task: str | None,
        max_segment_s: float | None,
        on_progress: Callable[[float], object],
    ) -> Iterator[SpeechResult | VietstError]:
        for audio in audios:
            self.heard.append(audio.name)
            if audio.stem == "bad":
                yield VietstError(where=str(audio), rule="sound", found="noise", do="mend it")
            else:
                on_progress(1.0)
                segment = Segment(0.0, 1.0, {TRANSCRIBE: Said(audio.stem, (), 1, 0.0)})
                yield SpeechResult(1.0, (TRANSCRIBE,), (segment,))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a", "bad", "c"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(1600, dtype=np.float32), 16_000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def transcribe(
    *formats: str, overwrite: bool = False, options: Options = OPTIONS
) -> tuple[Plan, Outcome, list[str]]:
    plan = make_plan(find_recordings(["."], None), formats or ["txt"], options, overwrite=overwrite)
    reader = Reader()
    return plan, run_jobs(reader, plan), reader.heard


def test_one_bad_file_does_not_stop_the_rest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, outcome, _ = transcribe()
    assert "failed: bad.wav" in capsys.readouterr().err
    assert [path.name for path in outcome.written] == ["a.txt", "c.txt"]
    assert [path.name for path in outcome.failed] == ["bad.wav"]
    assert (folder / "a.txt").read_text(encoding="utf-8") == "a\n"
    assert not (folder / "bad.txt").exists()
    assert "3 recordings to transcribe, 0.3 s of audio" in describe_plan(plan)
    assert "2 recordings, 2.0 s of audio" in describe_outcome(plan, outcome, elapsed_s=1.0)
    assert "1 recording failed, with the errors above:\n  bad.wav" in describe_outcome(plan, outcome, 1.0)


def test_what_is_done_is_left_alone(folder: Path) -> None:
    transcribe()
    before = (folder / "a.txt").stat().st_mtime_ns
    plan, _, heard = transcribe()
    assert heard == ["bad.wav"]
    assert [path.name for path in plan.done] == ["a.wav", "c.wav"]
    assert (folder / "a.txt").stat().st_mtime_ns == before


def test_another_format_is_added_without_writing_the_first_again(folder: Path) -> None:
    transcribe("txt")
    before = (folder / "a.txt").stat().st_mtime_ns
    _, outcome, heard = transcribe("txt", "srt")
    assert heard == ["a.wav", "bad.wav", "c.wav"]
    assert [path.name for path in outcome.written] == ["a.srt", "c.srt"]
    assert (folder / "a.txt").stat().st_mtime_ns == before


def test_another_model_or_recording_makes_it_again(folder: Path) -> None:
    transcribe()
    assert transcribe(options=OF_ANOTHER_MODEL)[2] == ["a.wav", "bad.wav", "c.wav"]
    os.utime(folder / "a.wav", (1, 1))
    assert transcribe(options=OF_ANOTHER_MODEL)[2] == ["a.wav", "bad.wav"]


def test_a_recording_that_grew_while_it_was_read_is_made_again(folder: Path) -> None:
    class Recorder(Reader):
        def each(self, audios: Iterable[Path], **options: Any) -> Iterator[SpeechResult | VietstError]:
            for audio in audios:
                audio.write_bytes(audio.read_bytes() + bytes(3200))
                yield from super().each([audio], **options)

    plan = make_plan(find_recordings(["c.wav"], None), ["txt"], OPTIONS, overwrite=False)
    assert len(run_jobs(Recorder(), plan).written) == 1
    again = make_plan(find_recordings(["c.wav"], None), ["txt"], OPTIONS, overwrite=False)
    assert [job.recording.audio.name for job in again.jobs] == ["c.wav"]


def test_a_recording_that_has_gone_is_one_that_fails(folder: Path) -> None:
    transcribe()
    (folder / "c.wav").unlink()
    (folder / "c.wav").symlink_to("gone.wav")
    plan, _, _ = transcribe()
    assert [job.recording.audio.name for job in plan.jobs] == ["bad.wav", "c.wav"]


def test_overwrite_makes_all_again(folder: Path) -> None:
    transcribe()
    assert transcribe(overwrite=True)[2] == ["a.wav", "bad.wav", "c.wav"]


def test_a_file_from_elsewhere_is_kept_and_said(folder: Path) -> None:
    (folder / "a.txt").write_text("theirs", encoding="utf-8")
    plan, _, heard = transcribe()
    assert heard == ["bad.wav", "c.wav"]
    assert [path.name for path in plan.kept] == ["a.txt"]
    assert "1 file kept, not made here or changed since" in describe_plan(plan)
    assert (folder / "a.txt").read_text(encoding="utf-8") == "theirs"
    transcribe(overwrite=True)
    assert (folder / "a.txt").read_text(encoding="utf-8") == "a\n"


def test_corrections_by_hand_survive_another_model(folder: Path) -> None:
    transcribe()
    (folder / "a.txt").write_text("a, corrected\n", encoding="utf-8")
    assert [path.name for path in transcribe()[0].done] == ["a.wav", "c.wav"], (
        "the same model has nothing to add"
    )
    plan, _, heard = transcribe(options=OF_ANOTHER_MODEL)
    assert heard == ["bad.wav", "c.wav"]
    assert [path.name for path in plan.kept] == ["a.txt"]
    assert (folder / "a.txt").read_text(encoding="utf-8") == "a, corrected\n"


def test_a_record_whose_last_line_was_cut_off_goes_on(folder: Path) -> None:
    transcribe()
    record = folder / RECORD_NAME
    record.write_bytes(record.read_bytes()[:-20])
    plan, _, _ = transcribe()
    assert ([path.name for path in plan.done], [path.name for path in plan.kept]) == (["a.wav"], ["c.txt"])
    transcribe(overwrite=True)
    assert transcribe()[2] == ["bad.wav"]


def test_an_output_that_cannot_be_written_does_not_stop_the_rest(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "a.txt").mkdir()
    plan = make_plan(find_recordings(["."], Path("out")), ["txt"], OPTIONS, overwrite=True)
    outcome = run_jobs(Reader(), plan)
    assert [path.name for path in outcome.failed] == ["a.wav", "bad.wav"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == [RECORD_NAME, "a.txt", "c.txt"]


def test_duration_of_a_video_comes_from_its_header(folder: Path) -> None:
    import av

    with av.open("talk.mp4", "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 32_000), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert header_duration_s(Path("talk.mp4")) == pytest.approx(2.0, abs=0.2)
    assert header_duration_s(Path("a.wav")) == pytest.approx(0.1)
    Path("broken.mp3").write_bytes(b"no sound")
    assert header_duration_s(Path("broken.mp3")) == 0.0
    Path("headerless.raw").write_bytes(b"")  # soundfile asks for its rate by a TypeError
    assert header_duration_s(Path("headerless.raw")) == 0.0


def test_subtitles_ask_for_segments_of_a_cue_if_nothing_else_was_asked_for() -> None:
    assert segment_limit_s(None, ["txt", "vtt"]) == 7.0
    assert segment_limit_s(None, ["txt", "json"]) is None
    assert segment_limit_s(20.0, ["srt"]) == 20.0
