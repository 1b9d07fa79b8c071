"""Subtitles, tables and texts: what is written is read back by rules of each format's own."""

import html
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vietst.constants import TASKS, TRANSCRIBE, TRANSLATE
from vietst.data.tables import read_table
from vietst.evaluation.word_language import tag_words
from vietst.inference.cues import MAX_LINE_CHARACTERS, Cue, cues_of, one_line
from vietst.inference.results import Said, Segment, SpeechResult
from vietst.inference.transcript_files import FORMATS

TRANSCRIPT, TRANSLATION = "mình sẽ fix cái bug này", "mình sẽ sửa cái lỗi này"


def said(text: str) -> Said:
    return Said(text, tuple(tag_words(text)), num_tokens=4, log_probability=math.log(0.5))


def result(*segments: tuple[float, float, Sequence[str]], tasks: tuple[str, ...] = TASKS) -> SpeechResult:
    made = tuple(
        Segment(start_s, end_s, {task: said(text) for task, text in zip(tasks, texts, strict=True)})
        for start_s, end_s, texts in segments
    )
    return SpeechResult(
        duration_s=max((end_s for _, end_s, _ in segments), default=5.0), tasks=tasks, segments=made
    )


# --- readers that know nothing of the writer --------------------------------------------------------------


def read_clock(text: str, decimal_mark: str) -> int:
    hours, minutes, seconds, thousandths = re.fullmatch(
        rf"(\d\d+):([0-5]\d):([0-5]\d){re.escape(decimal_mark)}(\d\d\d)", text
    ).groups()
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(thousandths)


def read_cue(block: list[str], decimal_mark: str) -> Cue:
    start, end = block[0].split(" --> ")
    return Cue(read_clock(start, decimal_mark), read_clock(end, decimal_mark), tuple(block[1:]))


def blocks_of(text: str) -> list[list[str]]:
    """As parsers cut cues: any line end counts, a blank line ends a block."""
    blocks: list[list[str]] = [[]]
    for line in re.split(r"\r\n|\r|\n", text):
        if line.strip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def read_srt(text: str) -> list[Cue]:
    back = str.maketrans("＜＞｛｝", "<>{}")
    cues = []
    for number, block in enumerate(blocks_of(text), start=1):
        assert block[0] == str(number)
        assert not any(set("<>{}") & set(line) for line in block[2:])
        cue = read_cue(block[1:], ",")
        cues.append(Cue(cue.start_ms, cue.end_ms, tuple(line.translate(back) for line in cue.lines)))
    return cues


def read_vtt(text: str) -> list[Cue]:
    first, *rest = blocks_of(text)
    assert first == ["WEBVTT"]
    cues = []
    for block in rest:
        assert not any("<" in line or "-->" in line for line in block[1:])
        cue = read_cue(block, ".")
        cues.append(Cue(cue.start_ms, cue.end_ms, tuple(html.unescape(line) for line in cue.lines)))
    return cues


# --- properties -------------------------------------------------------------------------------------------

WORDS = st.one_of(
    st.sampled_from(
        [*TRANSCRIPT.split(), "-->", "<i>", "&amp;", "a<b", "{\\an8}", '"quoted', "00:00:01.000", "1"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="＜＞｛｝"), max_size=60),
)
TEXTS = st.lists(WORDS, max_size=40).map(" ".join)


@st.composite
def results(draw: st.DrawFn) -> SpeechResult:
    """Of any text, and of times that touch, overlap and coincide, some of them hours later."""
    tasks = draw(st.sampled_from([TASKS, (TRANSCRIBE,), (TRANSLATE,)]))
    starts = sorted(draw(st.lists(st.floats(0, 40_000), max_size=6)))
    segments = [
        (start_s, start_s + draw(st.floats(0, 30)), draw(st.tuples(*(TEXTS for _ in tasks))))
        for start_s in starts
    ]
    return result(*segments, tasks=tasks)


def words_shown(cues: Sequence[Cue]) -> str:
    return "".join(line for cue in cues for line in cue.lines).replace(" ", "")


def words_said(of: SpeechResult) -> list[str]:
    return [one_line(segment.said[task].text) for segment in of.segments for task in of.tasks]


@settings(max_examples=60)
@given(results())
def test_subtitles_are_read_back_with_the_same_times_and_texts(of: SpeechResult) -> None:
    cues = cues_of(of)
    assert read_srt(FORMATS["srt"](of)) == cues
    assert read_vtt(FORMATS["vtt"](of)) == cues
    assert sorted(words_shown(cues)) == sorted("".join(words_said(of)).replace(" ", ""))


@settings(max_examples=60)
@given(results())
def test_cues_follow_each_other_and_can_be_read(of: SpeechResult) -> None:
    previous_end_ms = 0
    for cue in cues_of(of):
        assert previous_end_ms <= cue.start_ms < cue.end_ms
        previous_end_ms = cue.end_ms
        assert 1 <= len(cue.lines) <= 2 * len(of.tasks)
        assert all(len(line) <= MAX_LINE_CHARACTERS or " " not in line for line in cue.lines)


@settings(max_examples=30)
@given(of=results())
def test_tables_and_json_are_read_back(of: SpeechResult, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = json.loads(FORMATS["json"](of))
    assert (content["transcript"], content["translation"]) == (of.transcript, of.translation)
    table = tmp_path_factory.mktemp("table") / "result.tsv"
    table.write_text(FORMATS["tsv"](of), encoding="utf-8", newline="")
    rows = read_table(table) if of.segments else []
    column_of = {TRANSCRIBE: "transcript", TRANSLATE: "translation"}
    for segment, in_json, row in zip(of.segments, content["segments"], rows, strict=True):
        assert float(row["start_s"]) == in_json["start_s"] == pytest.approx(segment.start_s, abs=5.01e-4)
        assert float(row["end_s"]) == in_json["end_s"] == pytest.approx(segment.end_s, abs=5.01e-4)
        for task, column in column_of.items():
            assert (task in of.tasks) == (in_json[column] is not None) == (column in row)
            if task in of.tasks:
                assert row[column] == one_line(segment.said[task].text)
                assert in_json[column]["text"] == segment.said[task].text
                assert [word["word"] for word in in_json[column]["words"]] == [
                    word for word, _ in segment.said[task].words
                ]


# --- by hand ----------------------------------------------------------------------------------------------


def test_both_tasks_stand_in_one_cue() -> None:
    of = result((0.5, 2.25, (TRANSCRIPT, TRANSLATION)), (3.0, 4.0, ("ok", "được rồi")))
    assert FORMATS["srt"](of) == (
        f"1\n00:00:00,500 --> 00:00:02,250\n{TRANSCRIPT}\n{TRANSLATION}\n\n"
        "2\n00:00:03,000 --> 00:00:04,000\nok\nđược rồi\n"
    )
    assert FORMATS["vtt"](of) == (
        f"WEBVTT\n\n00:00:00.500 --> 00:00:02.250\n{TRANSCRIPT}\n{TRANSLATION}\n\n"
        "00:00:03.000 --> 00:00:04.000\nok\nđược rồi\n"
    )
    assert FORMATS["txt"](of) == f"{TRANSCRIPT}\n{TRANSLATION}\n\nok\nđược rồi\n"
    assert FORMATS["tsv"](of) == (
        f"start_s\tend_s\ttranscript\ttranslation\n0.500\t2.250\t{TRANSCRIPT}\t{TRANSLATION}\n"
        "3.000\t4.000\tok\tđược rồi\n"
    )


def test_one_task_is_one_line() -> None:
    of = result((0.0, 1.0, (TRANSLATION,)), (1.0, 2.0, ("được",)), tasks=(TRANSLATE,))
    assert FORMATS["txt"](of) == f"{TRANSLATION}\nđược\n"
    assert FORMATS["srt"](of).splitlines()[:3] == ["1", "00:00:00,000 --> 00:00:01,000", TRANSLATION]
    assert FORMATS["tsv"](of).splitlines()[0] == "start_s\tend_s\ttranslation"


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (59.9996, "00:01:00.000"),
        (59.9994, "00:00:59.999"),
        (3599.9999, "01:00:00.000"),
        (0.0004, "00:00:00.000"),
        (360_000.0, "100:00:00.000"),
    ],
)
def test_rounding_carries_over(seconds: float, written: str) -> None:
    of = result((seconds, seconds + 5, (TRANSCRIPT, TRANSLATION)))
    assert FORMATS["vtt"](of).splitlines()[2].startswith(f"{written} --> ")
    assert FORMATS["srt"](of).splitlines()[1].startswith(written.replace(".", ","))


def test_a_long_segment_becomes_cues_of_two_lines_that_share_its_time_by_length() -> None:
    words = [f"từ{number:02d}" for number in range(40)]
    cues = cues_of(result((10.0, 30.0, (" ".join(words),)), tasks=(TRANSCRIBE,)))
    assert len(cues) == 3
    assert " ".join(" ".join(cue.lines) for cue in cues).split() == words
    assert (cues[0].start_ms, cues[-1].end_ms) == (10_000, 30_000)
    for cue in cues:
        share = sum(len(line.split()) for line in cue.lines) / 40
        assert (cue.end_ms - cue.start_ms) / 20_000 == pytest.approx(share, abs=0.01)


def test_lines_of_a_cue_are_about_equally_long() -> None:
    (cue,) = cues_of(
        result((0.0, 2.0, ("nếu được thì cứ kiểm thử ứng dụng di động luôn nhé",)), tasks=(TRANSLATE,))
    )
    assert cue.lines == ("nếu được thì cứ kiểm thử", "ứng dụng di động luôn nhé")


@pytest.mark.parametrize(("name", "written"), [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n")])
def test_silence_is_a_valid_file(name: str, written: str) -> None:
    assert FORMATS[name](result()) == written
    assert FORMATS[name](result((0.0, 1.0, ("", "\n")))) == written


def test_json_is_the_documented_schema() -> None:
    """A change here is a new version, unless it only adds."""
    assert json.loads(FORMATS["json"](result((0.5, 2.0, ("fix bug này",)), tasks=(TRANSCRIBE,)))) == {
        "format": "vietst speech result",
        "version": 1,
        "duration_s": 2.0,
        "transcript": "fix bug này",
        "translation": None,
        "segments": [
            {
                "start_s": 0.5,
                "end_s": 2.0,
                "transcript": {
                    "text": "fix bug này",
                    "confidence": 0.8409,
                    "words": [
                        {"word": "fix", "language": "en"},
                        {"word": "bug", "language": "en"},
                        {"word": "này", "language": "vi"},
                    ],
                },
                "translation": None,
            }
        ],
    }


def test_bytes_are_utf8_with_plain_line_ends() -> None:
    for write in FORMATS.values():
        text = write(result((0.0, 1.0, ("một\r\nhai\tba\x00", "bốn"))))
        assert not set("\r\x00") & set(text)
        assert not text.encode("utf-8").startswith(b"\xef\xbb\xbf")
        assert text.endswith("\n")
        assert not text.endswith("\n\n")


def test_docstring_names_every_key_of_the_json(repo_root: Path) -> None:
    documented = (
        (repo_root / "vietst/inference/transcript_files.py").read_text(encoding="utf-8").split('"""')[1]
    )

    def keys(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(value) | set().union(*map(keys, value.values()))
        return set().union(*map(keys, value)) if isinstance(value, list) else set()

    written = keys(json.loads(FORMATS["json"](result((0.0, 1.0, (TRANSCRIPT, TRANSLATION))))))
    assert not [key for key in written if not re.search(rf"\b{key}\b", documented)]
