"""What a command line names, and where its outputs go."""

import sys
import unicodedata
from pathlib import Path

import pytest

from vietst.errors import VietstError
from vietst.inference.named_recordings import find_recordings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "talks/monday/a.mp4",
        "talks/monday/a.srt",
        "talks/tuesday/deep/er/b.WAV",
        "talks/notes.pdf",
        "talks/._c.wav",
        "talks/.trash/d.wav",
        "e.v1.flac",
        "odd.sound",
        "[1].wav",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*names: str, output: str | None = None) -> dict[str, str]:
    """Recording → its SRT file."""
    recordings = find_recordings(names, None if output is None else Path(output))
    return {one.audio.as_posix(): one.output("srt").as_posix() for one in recordings}


def test_folders_are_searched_deeply_for_what_is_called_like_a_recording(folder: Path) -> None:
    assert found("talks") == {
        "talks/monday/a.mp4": "talks/monday/a.srt",
        "talks/tuesday/deep/er/b.WAV": "talks/tuesday/deep/er/b.srt",
    }


def test_globs_are_found_without_a_shell(folder: Path) -> None:
    assert found("talks/**/*.mp4") == {"talks/monday/a.mp4": "talks/monday/a.srt"}
    assert list(found("talks/*")) == list(found("talks/monday", "talks/tuesday", "talks"))
    assert list(found("?.v1.*", "[1].wav")) == ["e.v1.flac", "[1].wav"]


@pytest.mark.parametrize("typed", ["NFC", "NFD"])
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_letters_that_a_mac_took_apart_are_the_same_letters(folder: Path, on_disk: str, typed: str) -> None:
    """Files that came from a Mac may lie in a folder that was made elsewhere."""
    name = unicodedata.normalize(on_disk, "tiếng việt.wav")
    inner = Path(unicodedata.normalize("NFC", "bài giảng"), name)
    inner.parent.mkdir()
    for path, asked in ((Path(name), name), (inner, str(inner)), (inner, f"{inner.parent}/*")):
        path.touch()
        (recording,) = find_recordings([unicodedata.normalize(typed, asked)], None)
        assert recording.audio.samefile(path)


def test_a_file_that_is_named_is_taken_whatever_it_is_called_but_no_transcript_is(folder: Path) -> None:
    assert list(found("odd.sound", "talks/monday/a.srt")) == ["odd.sound"]


def test_each_recording_comes_once(folder: Path) -> None:
    assert list(found("e.v1.flac", "./e.v1.flac", str(folder / "e.v1.flac"), "*.flac")) == ["e.v1.flac"]


def test_only_the_last_suffix_goes(folder: Path) -> None:
    assert found("e.v1.flac") == {"e.v1.flac": "e.v1.srt"}


@pytest.mark.parametrize(
    ("names", "outputs"),
    [
        (["talks"], ["out/monday/a.srt", "out/tuesday/deep/er/b.srt"]),
        (["talks/*"], ["out/monday/a.srt", "out/tuesday/deep/er/b.srt"]),
        (["talks/monday", "talks/tuesday"], ["out/monday/a.srt", "out/tuesday/deep/er/b.srt"]),
        (["talks/monday/a.mp4"], ["out/a.srt"]),
        (
            ["talks", "e.v1.flac"],
            ["out/talks/monday/a.srt", "out/talks/tuesday/deep/er/b.srt", "out/e.v1.srt"],
        ),
    ],
)
def test_output_keeps_the_folders_below_what_all_names_share(
    folder: Path, names: list[str], outputs: list[str]
) -> None:
    assert list(found(*names, output="out").values()) == outputs


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["talks", "nothing.wav"], "no such file or folder"),
        (["*.ogg"], "a glob that matches nothing"),
        (["talks/monday/a.srt"], "no file that is called like one"),
    ],
)
def test_names_of_nothing_are_refused(folder: Path, names: list[str], said: str) -> None:
    with pytest.raises(VietstError, match=said):
        found(*names)


def test_two_recordings_that_would_write_the_same_are_refused(folder: Path) -> None:
    (folder / "talks/monday/a.wav").touch()
    with pytest.raises(VietstError, match=r"a\.mp4 and .*a\.wav"):
        found("talks")


def test_letter_case_tells_outputs_apart_on_linux_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "x.wav").touch()
    (folder / "X.mp3").touch()
    monkeypatch.setattr(sys, "platform", "linux")
    assert len(found("x.wav", "X.mp3")) == 2
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(VietstError, match=r"x\.wav and X\.mp3"):
        found("x.wav", "X.mp3")
