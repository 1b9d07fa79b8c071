"""Rows among others: segments that overlap, copies of copies, groups that are large enough."""

import numpy as np
import pytest

from vietst.audit.comparisons import NO_ROW, MeasuredRow, compare_rows
from vietst.audit.fingerprints import is_same_audio
from vietst.audit.rows import AuditRow

WORDS = np.random.default_rng(0).integers(1, 2**32, size=(3, 100), dtype=np.uint32)
NOTHING = np.empty(0, np.uint32)


def row(rate: float = 4.0, marks: np.ndarray = NOTHING, **values: str) -> MeasuredRow:
    return MeasuredRow(AuditRow(**dict.fromkeys(AuditRow.__dataclass_fields__, "") | values), rate, marks)


def piece(file: str, start_s: str, end_s: str) -> MeasuredRow:
    return row(audio_path=file, start_s=start_s, end_s=end_s)


def clip(video: str, start_s: str, end_s: str) -> MeasuredRow:
    return row(audio_path=f"{video}-{start_s}", video_id=video, video_start_s=start_s, video_end_s=end_s)


@pytest.mark.parametrize("segment", [piece, clip])
def test_segments_of_a_recording_that_overlap_are_found_whatever_their_order(segment, tmp_path) -> None:
    rows = [
        segment("a", "10", "14"),
        segment("a", "0", "5"),
        segment("b", "4", "6"),
        segment("a", "4.5", "8"),
        segment("a", "8", "10"),
        segment("a", "11", "12"),
        row(audio_path="c", video_id="a"),
        segment("a", "4.75", "x"),
    ]
    found = compare_rows(rows, tmp_path).overlap_s
    np.testing.assert_allclose(found, [1, 0.5, 0, 0.5, 0, 1, np.nan, np.nan])


def test_a_piece_to_the_end_of_its_file_overlaps_what_comes_later(tmp_path) -> None:
    found = compare_rows([piece("a", "3", ""), piece("a", "4", "5"), piece("a", "", "3")], tmp_path).overlap_s
    np.testing.assert_allclose(found, [1, 1, 0])


def test_all_copies_name_the_first_row(tmp_path) -> None:
    noisy = WORDS[0] ^ np.where(np.arange(100) % 4 == 0, np.uint32(6), np.uint32(0))
    marks = [WORDS[0], WORDS[1], noisy, NOTHING, WORDS[0][2:], WORDS[2], WORDS[1], NOTHING]
    found = compare_rows([row(marks=of_row) for of_row in marks], tmp_path).duplicate_of
    assert found.tolist() == [NO_ROW, NO_ROW, 0, NO_ROW, 0, NO_ROW, 1, NO_ROW]
    assert not any(tmp_path.iterdir()), "the file of fingerprints is gone"


def test_a_copy_of_a_copy_names_the_first_row_that_it_hardly_resembles(tmp_path) -> None:
    is_even = np.arange(100) % 2 == 0
    copy = WORDS[0] ^ np.where(is_even, np.uint32(0xFF), np.uint32(0))
    copy_of_it = copy ^ np.where(is_even, np.uint32(0), np.uint32(0xFF))
    assert not is_same_audio(WORDS[0], copy_of_it)
    found = compare_rows([row(marks=marks) for marks in (WORDS[0], copy, copy_of_it)], tmp_path)
    assert found.duplicate_of.tolist() == [NO_ROW, 0, 0]


def test_rates_are_compared_within_the_speaker(tmp_path) -> None:
    rates = np.linspace(3.9, 4.1, 10)
    rows = [row(rate, speaker_id="slow") for rate in rates] + [
        row(rate + 3, speaker_id="fast") for rate in rates
    ]
    found = compare_rows([*rows, row(7.0, speaker_id="slow"), row(np.nan)], tmp_path).syllable_rate_z
    assert np.abs(found[:20]).max() < 3
    assert found[20] > 10
    assert np.isnan(found[21])
