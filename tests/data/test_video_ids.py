"""Which video a clip belongs to, told from its path."""

import pytest

from vietst.data.video_ids import compile_video_id_pattern, video_id_by_pattern, video_id_of
from vietst.errors import ManifestError


@pytest.mark.parametrize(
    ("audio_path", "video_id"),
    [
        ("audio/b7x/seg_0004.wav", "b7x"),
        ("audio/b7x/0004.wav", "b7x"),
        ("channel/b7x/b7x_0004.wav", "b7x"),
        ("audio/Vlog số 3/intro-1.wav", "Vlog số 3"),
        ("data/video_003/0001.wav", "video_003"),
        ("clips/b7x_0004.wav", "b7x"),
        ("clips/b7x-0004.flac", "b7x"),
        ("clips_v2/b7x_0004.wav", "b7x"),
        ("corpora/b7x.mp4", "b7x"),
        ("data/wavs/part2/b7x_0004.wav", "b7x"),
        ("audio-16khz/b7x_0004.wav", "b7x"),
        ("b7x_0004.wav", "b7x"),
        ("video_003_0001.wav", "video_003"),
        ("clips/b7x_0012300_0014500.wav", "b7x"),
        ("clips/b7x_12.30-14.50.wav", "b7x"),
        ("clips/b7x_2.30-4.50.wav", "b7x_2.30"),  # too short to be sure: the rule of the last number
        ("clips/b7x_0014500_0012300.wav", "b7x_0014500"),  # ends before it starts: no times
        ("clips/0004.wav", "clips"),
        ("clips/hello.wav", "hello"),
        ("0004.wav", "0004"),
    ],
)
def test_video_is_told_from_the_path(audio_path: str, video_id: str) -> None:
    assert video_id_of(audio_path) == video_id


@pytest.mark.parametrize(
    ("pattern", "video_id"),
    [
        (r"(?P<video_id>[a-z]+)\d+", "b"),
        (r"(x)|(?P<video_id>clips)", "clips"),
        (r"/([^_]+)_", "b7x"),
        (r"b\dx", "b7x"),
        (r"(nothing)", None),
        (r"(y?)b7x", None),
    ],
)
def test_a_pattern_gives_its_named_group_or_its_first_or_its_match(
    pattern: str, video_id: str | None
) -> None:
    assert video_id_by_pattern("clips/b7x_0004.wav", compile_video_id_pattern(pattern)) == video_id


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ManifestError, match="video_id_pattern"):
        compile_video_id_pattern("(")
