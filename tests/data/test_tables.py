"""Table files: what people write is read as meant, what cannot be meant is refused with its place."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.small_files import needs_limits, only_files_up_to
from vietst.data.records import format_record, split_records
from vietst.data.tables import atomic_writer, open_table, read_table, write_table
from vietst.errors import ManifestError, VietstError

HEADER = "audio_path\ttranscript\ttranslation\n"
REQUIRED = ("audio_path", "transcript", "translation")


def rows_of(path: Path, content: str | bytes) -> list[dict[str, str]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path, REQUIRED)


def transcripts_of(path: Path, content: str | bytes) -> list[str]:
    return [row["transcript"] for row in rows_of(path, content)]


# --- as meant ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "transcripts"),
    [
        pytest.param(HEADER + "a.wav\txin chào\tchào\n", ["xin chào"], id="plain"),
        pytest.param(HEADER + "a.wav\txin chào\tchào", ["xin chào"], id="no line end at the end"),
        pytest.param("\ufeff" + HEADER + "a.wav\tx\ty\n", ["x"], id="byte order mark"),
        pytest.param((HEADER + "a.wav\tx\ty\n").replace("\n", "\r\n"), ["x"], id="CR LF"),
        pytest.param("translation\ttranscript\taudio_path\ny\tx\ta.wav\n", ["x"], id="columns in any order"),
        pytest.param(" audio_path \ttranscript\ttranslation \na.wav\tx\ty\n", ["x"], id="spaces in header"),
        pytest.param("\n" + HEADER + "\na.wav\tx\ty\n\n", ["x"], id="blank lines"),
        pytest.param(HEADER + 'a.wav\t"x"\t"y"\n', ["x"], id="quoted"),
        pytest.param('"audio_path"\t"transcript"\t"translation"\na.wav\tx\ty\n', ["x"], id="quoted header"),
        pytest.param(HEADER + 'a.wav\t"nói ""ok"" nhé"\ty\n', ['nói "ok" nhé'], id="doubled marks"),
        pytest.param(HEADER + 'a.wav\t"một\thai"\ty\n', ["một\thai"], id="tab inside quotes"),
        pytest.param(HEADER + 'a.wav\t"một\nhai"\ty\n', ["một\nhai"], id="line end inside quotes"),
        pytest.param(HEADER + 'a.wav\tx\t"một\nhai"\nb.wav\tz\ty\n', ["x", "z"], id="the same at the end"),
        pytest.param(HEADER + 'a.wav\tnói "ok" nhé\ty\n', ['nói "ok" nhé'], id="marks in the middle"),
        pytest.param(HEADER + 'a.wav\t"ok" nhé\ty\n', ['"ok" nhé'], id="marks at the start"),
        pytest.param(HEADER + 'a.wav\tnói "ok"\ty\n', ['nói "ok"'], id="marks at the end"),
        pytest.param(HEADER + 'a.wav\tmàn hình 27"\ty\n', ['màn hình 27"'], id="one mark"),
        pytest.param(
            HEADER + 'a.wav\t"anh nói\ty\nb.wav\tđi thôi"\ty\n',
            ['"anh nói', 'đi thôi"'],
            id="a quotation over two utterances",
        ),
        pytest.param(
            HEADER + 'a.wav\t"anh nói\ty\n' + "b.wav\tx\ty\n" * 300,
            ['"anh nói'] + ["x"] * 300,
            id="a mark that never closes",
        ),
        pytest.param(HEADER + 'a.wav\t""\ty\n', [""], id="empty quotes"),
        pytest.param(HEADER + "a.wav\ta\u2028b\x85c\ty\n", ["a\u2028b\x85c"], id="other line separators"),
    ],
)
def test_text_is_read_as_meant(tmp_path: Path, content: str, transcripts: list[str]) -> None:
    assert transcripts_of(tmp_path / "manifest.tsv", content) == transcripts


def test_a_csv_file_is_separated_by_commas(tmp_path: Path) -> None:
    content = 'audio_path,transcript,translation\na.wav,"một, hai\nba","y"\n'
    assert transcripts_of(tmp_path / "manifest.csv", content) == ["một, hai\nba"]


def test_fields_may_be_very_long(tmp_path: Path) -> None:
    text = "dài " * 100_000
    assert transcripts_of(tmp_path / "manifest.tsv", f"{HEADER}a.wav\t{text}\ty\n") == [text]


def test_line_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "manifest.tsv"
    path.write_text(
        "\n" + HEADER + 'a\t"1\n2\n3"\tx\n\nb\tx\ty\nonly one\n"c"\t"\n"\tx\nd\tx\ty', encoding="utf-8"
    )
    numbers = [number for number, _ in open_table(path, REQUIRED).records()]
    assert numbers == [3, 7, 8, 9, 11]


def test_lines_without_enough_fields_are_not_joined_across_a_mark_inside_a_text(tmp_path: Path) -> None:
    path = tmp_path / "manifest.tsv"
    path.write_text(HEADER + 'a\t"b\nc "d\te\nf\tg\th\n', encoding="utf-8")
    assert [fields for _, fields in open_table(path).records()] == [
        ["a", '"b'],
        ['c "d', "e"],
        ["f", "g", "h"],
    ]


def test_a_row_with_another_number_of_fields_is_kept_apart_by_records_and_refused_by_rows(
    tmp_path: Path,
) -> None:
    path = tmp_path / "manifest.tsv"
    path.write_text(HEADER + "a\tb\tc\nd\te\n", encoding="utf-8")
    assert [fields for _, fields in open_table(path).records()] == [["a", "b", "c"], ["d", "e"]]
    with pytest.raises(ManifestError, match="line 3"):
        read_table(path)


# --- laws -------------------------------------------------------------------------------------------------

# Characters that a writer can get wrong are drawn more often than others.
TEXT = st.text(
    st.one_of(
        st.sampled_from('"\t,\n\r ab'), st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    ),
    max_size=12,
)


@given(
    rows=st.lists(st.lists(TEXT, min_size=1, max_size=4), min_size=1, max_size=6),
    delimiter=st.sampled_from("\t,"),
)
def test_what_is_written_is_read_back(rows: list[list[str]], delimiter: str) -> None:
    num_fields = len(rows[0])
    rows = [(row + [""] * num_fields)[:num_fields] for row in rows]
    text = "".join(format_record(row, delimiter) for row in rows)
    lines = text.split("\n")[:-1]
    read = split_records((f"{line}\n" for line in lines), delimiter, num_fields)
    assert [fields for _, fields in read] == rows


@given(row=st.lists(TEXT, min_size=2, max_size=4))
def test_csv_rows_are_what_other_programs_read(row: list[str]) -> None:
    assert list(csv.reader(io.StringIO(format_record(row, ","), newline=""))) == [row]


@given(lines=st.lists(st.text('"\tab ', max_size=10), max_size=12))
def test_no_mark_can_swallow_rows_that_stand_alone(lines: list[str]) -> None:
    filled = [f"x{line}" for line in lines]
    whole = [line for line in filled if line.count("\t") == 1]
    records = list(split_records((f"{line}\n" for line in filled), "\t", 2))
    if len(whole) == len(filled):
        assert len(records) == len(filled)


# --- refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        pytest.param("m.tsv", b"", "empty file", id="empty"),
        pytest.param("m.tsv", b"\xef\xbb\xbf\r\n\n", "empty file", id="blank"),
        pytest.param("m.tsv", HEADER, "header only", id="header only"),
        pytest.param(
            "m.tsv", HEADER.replace("cript", "cripts"), r"no transcript \(nearest: transcripts\)", id="column"
        ),
        pytest.param("m.tsv", HEADER.title(), "nearest: Audio_Path", id="case"),
        pytest.param("m.tsv", HEADER.replace("\t", ","), "separated by commas", id="commas"),
        pytest.param("m.tsv", HEADER.replace("\t", ";"), "separated by semicolons", id="semicolons"),
        pytest.param("m.tsv", HEADER.replace("\t", '"|"'), "separated by vertical bars", id="bars"),
        pytest.param("m.csv", HEADER, "separated by tabs", id="tabs in .csv"),
        pytest.param("m.tsv", "transcript\ttranscript\n", "transcript more than once", id="doubled column"),
        pytest.param("m.tsv", "\taudio_path\n", "column 1 has none", id="unnamed column"),
        pytest.param("m.tsv", b"a\tch\xe0o\tc\n", "byte 5 of the line is 0xe0", id="latin-1"),
        pytest.param("m.tsv", HEADER.encode("utf-16"), "UTF-16", id="utf-16"),
        pytest.param("m.tsv", HEADER.encode("utf-16-le"), "NUL at byte 2", id="utf-16 without mark"),
        pytest.param("m.tsv", "a\tb\0\tc\n", "NUL at byte 4", id="NUL"),
        pytest.param("m.tsv", "a\tb\tc\ra\tb\tc\r", "CR alone", id="old Mac"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(
    tmp_path: Path, name: str, content: str | bytes, found: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ManifestError, match=found) as caught:
        open_table(path, REQUIRED)
    assert str(path) in caught.value.where


def test_the_place_of_a_bad_byte_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.tsv"
    path.write_bytes(HEADER.encode() + b"a\tb\tc\nd\t\xff\tf\n")
    with pytest.raises(ManifestError) as caught:
        open_table(path)
    assert caught.value.where.endswith("line 3")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        open_table(tmp_path / "nowhere.tsv")
    with pytest.raises(ManifestError):
        open_table(tmp_path)


# --- writing ----------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.tsv"
    write_table(path, [{"a": "1", "b": "2"}], ["b", "a"])
    assert path.read_bytes() == b"b\ta\n2\t1\n"

    def fail() -> None:
        with atomic_writer(path) as file:
            file.write("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_bytes() == b"b\ta\n2\t1\n"
    assert list(path.parent.iterdir()) == [path]


@needs_limits
def test_a_full_disk_is_told_and_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    write_table(path, [{"a": "1"}], ["a"])
    with only_files_up_to(1000), pytest.raises(VietstError, match="free some space") as caught:
        write_table(path, [{"a": "chữ"}] * 1000, ["a"])
    assert caught.value.where == str(path)
    assert path.read_bytes() == b"a\n1\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ManifestError, match="can be written"):
        write_table(tmp_path / "file" / "table.tsv", [], ["a"])


def test_a_folder_is_refused_before_the_first_row_is_made(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_writer(tmp_path):
            pytest.fail("hours of work would be lost")

    with pytest.raises(ManifestError, match="a folder"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_another_program_has_open_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows then lets nothing take its place."""

    def locked(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Access is denied", str(self), None, str(target))

    path = tmp_path / "table.csv"
    write_table(path, [{"a": "1"}], ["a"])
    monkeypatch.setattr(Path, "replace", locked)
    with pytest.raises(ManifestError, match="close the program") as caught:
        write_table(path, [{"a": "2"}], ["a"])
    assert caught.value.where == str(path)
    assert path.read_bytes() == b"a\n1\n"
    assert list(tmp_path.iterdir()) == [path]
