"""How sizes and times are written."""

import pytest

from vietst.quantities import seconds_in_words, size_in_words


@pytest.mark.parametrize(
    ("num_bytes", "said"),
    [
        (1_214_000_000, "1.21 GB"),
        (46_080_000, "46.1 MB"),
        (3_840, "3.8 kB"),
        (60.0, "60 bytes"),
        (0, "0 bytes"),
    ],
)
def test_a_small_size_is_no_zero(num_bytes: float, said: str) -> None:
    assert size_in_words(num_bytes) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(62.04, "62.0 s"), (1.0, "1.0 s"), (0.123, "0.12 s"), (0.0041, "0.0041 s"), (0, "0 s")],
)
def test_a_short_time_is_no_zero(seconds: float, said: str) -> None:
    assert seconds_in_words(seconds) == said
