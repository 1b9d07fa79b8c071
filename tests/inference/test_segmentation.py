"""Pieces of speech: in order, apart, within the limit, and all that was said is in one of them."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from vietst.inference.segmentation import Piece, Segmenter
from vietst.inference.voice_activity import CHUNK_SAMPLES

SECOND = 16_000

# stretches of chunks with one probability each: speech, doubt, pauses short and long
STRETCHES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.9, 1.0]), st.integers(1, 80)), min_size=1, max_size=25
)
LIMITS = st.sampled_from([int(1.5 * SECOND), 4 * SECOND, 7 * SECOND, 30 * SECOND])


def pieces_of(probabilities: list[float], limit: int, num_samples: int | None = None) -> list[Piece]:
    segmenter = Segmenter(limit)
    return [
        *segmenter(probabilities),
        *segmenter.finish(len(probabilities) * CHUNK_SAMPLES if num_samples is None else num_samples),
    ]


def speech(*stretches: tuple[float, float]) -> list[float]:
    """Probabilities of stretches: (probability, seconds)."""
    return [p for p, seconds in stretches for _ in range(round(seconds * SECOND / CHUNK_SAMPLES))]


@given(STRETCHES, LIMITS, st.integers(0, CHUNK_SAMPLES - 1))
@settings(max_examples=120)
def test_pieces_keep_apart_fit_the_limit_and_hold_all_speech(stretches, limit, cut_off) -> None:
    probabilities = [p for p, length in stretches for _ in range(length)]
    num_samples = len(probabilities) * CHUNK_SAMPLES - cut_off
    pieces = pieces_of(probabilities, limit, num_samples)
    for piece in pieces:
        assert 0 <= piece.heard_start <= piece.start < piece.end <= piece.heard_end <= num_samples
        assert piece.heard_end - piece.heard_start <= limit
    for before, after in pairwise(pieces):
        assert before.heard_end <= after.heard_start
        assert before.end <= after.start
    heard = [
        any(
            p.heard_start <= i * CHUNK_SAMPLES and (i + 1) * CHUNK_SAMPLES <= p.heard_end + cut_off
            for p in pieces
        )
        for i in range(len(probabilities))
    ]
    position = 0
    for probability, length in stretches:
        if probability >= 0.5 and length >= 4:
            assert all(heard[position : position + length])
        position += length


@given(STRETCHES, LIMITS, st.integers(1, 200))
@settings(max_examples=60)
def test_pieces_do_not_depend_on_how_the_recording_streams_by_and_need_few_samples(
    stretches, limit, block
) -> None:
    probabilities = [p for p, length in stretches for _ in range(length)]
    segmenter, pieces, needed_from = Segmenter(limit), [], []
    for start in range(0, len(probabilities), block):
        pieces += segmenter(probabilities[start : start + block])
        seen = min(start + block, len(probabilities)) * CHUNK_SAMPLES
        assert seen - segmenter.earliest <= limit + SECOND
        needed_from.append((len(pieces), segmenter.earliest))
    pieces += segmenter.finish(len(probabilities) * CHUNK_SAMPLES)
    assert pieces == pieces_of(probabilities, limit)
    for num_known, earliest in needed_from:
        assert all(piece.heard_start >= earliest for piece in pieces[num_known:])


def test_short_pauses_stay_inside_a_piece_and_long_ones_end_it() -> None:
    said = speech((1.0, 2.0), (0.0, 1.0), (1.0, 2.0), (0.0, 3.0), (1.0, 2.0))
    assert len(pieces_of(said, 30 * SECOND)) == 2
    assert len(pieces_of(said, 7 * SECOND)) == 3, "for subtitles a second is long"


def test_a_piece_that_grows_too_long_ends_at_its_longest_late_pause() -> None:
    said = speech(
        (0.0, 0.5), (1.0, 12.0), (0.0, 1.5), (1.0, 12.0), (0.0, 0.8), (1.0, 2.5), (0.0, 0.2), (1.0, 9.0)
    )
    first, second = pieces_of(said, 30 * SECOND)
    assert abs(first.end / SECOND - 26.0) < 0.1
    assert abs(second.start / SECOND - 26.8) < 0.1


def test_speech_without_a_pause_is_cut_where_it_is_least_like_speech_and_nothing_is_lost() -> None:
    said = speech((1.0, 5.0), (0.6, 0.064), (1.0, 6.0))
    pieces = pieces_of(said, 7 * SECOND)
    assert len(pieces) == 2
    assert pieces[0].end == pieces[0].heard_end == pieces[1].start == pieces[1].heard_start
    assert abs(pieces[0].end / SECOND - 5.0) < 0.1


def test_a_click_is_no_speech_but_the_rest_of_a_cut_word_is() -> None:
    assert pieces_of(speech((0.0, 1.0), (1.0, 0.064), (0.0, 1.0)), 7 * SECOND) == []
    just_too_long = [1.0] * (Segmenter(4 * SECOND)._limit - 1) + [0.6, 1.0]
    _, rest = pieces_of([*just_too_long, *[0.0] * 20], 4 * SECOND)
    assert rest.heard_start == (len(just_too_long) - 2) * CHUNK_SAMPLES
    assert rest.heard_end >= len(just_too_long) * CHUNK_SAMPLES
