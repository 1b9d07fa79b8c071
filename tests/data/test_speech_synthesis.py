"""The espeak-ng binding: English words are spoken as English, by the same speaker."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from vietst.data import speech_synthesis
from vietst.data.sample_videos import ENGLISH_VOICES, VARIANTS
from vietst.data.speech_synthesis import SYNTHESIS_RATE_HZ, Synthesizer, synthesis_data
from vietst.errors import VietstError

WORDS = "please update the database server and review the marketing report"


@pytest.fixture(scope="module")
def synthesizer() -> Synthesizer:
    with synthesis_data() as data_path:
        return Synthesizer(data_path, seed=1)


def spoken(
    synthesizer: Synthesizer, voice: str, language: str, english_voice: str = "en-us"
) -> npt.NDArray[np.float64]:
    synthesizer.set_voice(voice, rate_wpm=180, pitch=50, pitch_range=50)
    return synthesizer.speak([(language, WORDS)], english_voice) / 32768


def band_levels_db(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Long-term level [60] in bands of 100 Hz up to 6 kHz: how a voice and a language sound on average."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    num_bins_per_band = round(100 * len(samples) / SYNTHESIS_RATE_HZ)
    levels = 10 * np.log10(power[: 60 * num_bins_per_band].reshape(60, -1).mean(axis=1))
    return levels - levels.mean()


def distance_db(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    return float(np.abs(band_levels_db(first) - band_levels_db(second)).mean())


@pytest.mark.parametrize("variant", ["m3", "f2", "steph", "Hugo"])
@pytest.mark.parametrize("english_voice", sorted(set(ENGLISH_VOICES)))
def test_marked_english_is_spoken_as_english_by_the_same_speaker(
    synthesizer: Synthesizer, variant: str, english_voice: str
) -> None:
    marked = spoken(synthesizer, f"vi+{variant}", "en", english_voice)
    unmarked = spoken(synthesizer, f"vi+{variant}", "vi")
    english_speaker = spoken(synthesizer, f"{english_voice}+{variant}", "vi")  # all English: nothing to mark
    other_speaker = spoken(synthesizer, english_voice, "vi")
    assert distance_db(marked, english_speaker) < 0.5 * distance_db(marked, unmarked)
    assert distance_db(marked, english_speaker) < 0.5 * distance_db(marked, other_speaker)
    assert len(marked) == pytest.approx(len(english_speaker), rel=0.02)


def test_every_timbre_of_the_corpus_exists_and_sounds_different(synthesizer: Synthesizer) -> None:
    voices = [spoken(synthesizer, f"vi+{variant}", "en") for variant in VARIANTS]
    for index, voice in enumerate(voices):
        assert min(distance_db(voice, other) for other in voices[:index] or [voices[-1]]) > 0.3, VARIANTS[
            index
        ]


def test_characters_of_markup_are_read_not_obeyed(synthesizer: Synthesizer) -> None:
    synthesizer.set_voice("vi", rate_wpm=180, pitch=50, pitch_range=50)
    assert len(synthesizer.speak([("vi", "a < b & c > d")], "en-us")) > SYNTHESIS_RATE_HZ / 2


def test_an_unknown_voice_is_refused(synthesizer: Synthesizer) -> None:
    with pytest.raises(ValueError, match="atlantean"):
        synthesizer.set_voice("atlantean", rate_wpm=180, pitch=50, pitch_range=50)


def test_data_below_a_long_path_is_brought_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    with synthesis_data() as installed:
        pass
    monkeypatch.setattr(speech_synthesis, "MAX_DATA_PATH_BYTES", 10)
    with synthesis_data() as copied:
        assert copied != installed
        size_bytes = sum(file.stat().st_size for file in copied.rglob("*") if file.is_file())
        assert size_bytes < 3_000_000
        speak = (
            "import sys; from pathlib import Path\n"
            "from vietst.data.speech_synthesis import Synthesizer\n"
            "synthesizer = Synthesizer(Path(sys.argv[1]), seed=1)\n"
            "synthesizer.set_voice('vi-vn-x-south+f2', rate_wpm=180, pitch=50, pitch_range=50)\n"
            "print(len(synthesizer.speak([('vi', 'mình'), ('en', 'update')], 'en-gb-x-rp')))"
        )
        lengths = [
            subprocess.run(
                [sys.executable, "-c", speak, str(path)], capture_output=True, text=True, check=True
            ).stdout
            for path in (installed, copied)
        ]
    assert lengths[0] == lengths[1]
    assert not copied.exists()


def test_missing_data_is_reported_with_what_to_do(tmp_path: Path) -> None:
    # In a process of its own: the library of this one has found its data already.
    start = (
        "import sys; from pathlib import Path\n"
        "from vietst.data.speech_synthesis import Synthesizer\n"
        "Synthesizer(Path(sys.argv[1]), seed=1)"
    )
    result = subprocess.run(
        [sys.executable, "-c", start, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "pip install --force-reinstall espeakng-loader" in result.stderr


def test_a_missing_package_is_reported_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(VietstError, match="pip install espeakng-loader"), synthesis_data():
        pass
