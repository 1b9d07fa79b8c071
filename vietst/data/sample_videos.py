"""One video of the sample corpus: who speaks, in what room, and how its sentences become WAV files.

A video is one synthetic speaker in one room: dialect, timbre, pitch, pace, accent of the English words, level
and background noise. It is spoken by a process of its own, from its own seed, because the speech library
carries state from one utterance to the next: so the bytes depend on nothing but the video.
"""

import hashlib
import random
import wave
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from vietst.data.sample_sentences import Sentence
from vietst.data.speech_synthesis import SYNTHESIS_RATE_HZ, Synthesizer

MAX_DURATION_S: Final = {"short": 3.95, "medium": 8.0, "long": 12.0}
"""Longest clip of each sentence length. "short" leaves room below the 4 s window of the nano model."""

SILENCE_S: Final = (0.05, 0.15)
"""Shortest and longest silence before the first and after the last word."""

DIALECTS: Final = ("vi", "vi-vn-x-central", "vi-vn-x-south")
# fmt: off
VARIANTS: Final = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "Alex", "Annie",
    "Diogo", "Gene", "Hugo", "Lee", "Mario", "Michael", "belinda", "gustave", "john", "linda", "max", "pablo",
    "quincy", "shelby", "steph",
)
# fmt: on
"""Timbres of espeak-ng that stay intelligible; robots, whispers and singers are left out."""

ENGLISH_VOICES: Final = ("en-us", "en-us", "en", "en-gb-x-rp")
"""American twice as often as British ("en" in espeak-ng) and Received Pronunciation."""


@dataclass(frozen=True)
class Speaker:
    """The voice and the room of one video."""

    dialect: str
    variant: str
    english_voice: str
    pitch: int
    pitch_range: int
    rate_wpm: int
    level_dbfs: float
    """Root mean square of the speech, relative to full scale."""
    signal_to_noise_db: float
    noise_exponent: float
    """Noise power falls with frequency to this power: 0 is white, 1 pink, 2 brown."""


@dataclass(frozen=True)
class Video:
    """One video to be spoken: plain values only, so that it can be sent to another process."""

    video_id: str
    speaker: Speaker
    sentences: tuple[Sentence, ...]
    sentence_length: str
    seed: int
    audio_dir: Path


def plan_speakers(num_videos: int, seed: int) -> list[Speaker]:
    """One speaker per video; the first 90 differ in dialect or timbre."""
    generator = random.Random(f"speakers {seed}")
    timbres = [(dialect, variant) for variant in VARIANTS for dialect in DIALECTS]
    generator.shuffle(timbres)
    return [
        Speaker(
            dialect=timbres[index % len(timbres)][0],
            variant=timbres[index % len(timbres)][1],
            english_voice=generator.choice(ENGLISH_VOICES),
            pitch=generator.randint(30, 70),
            pitch_range=generator.randint(35, 65),
            rate_wpm=generator.randint(165, 205),
            level_dbfs=round(generator.uniform(-30.0, -18.0), 1),
            signal_to_noise_db=round(generator.uniform(18.0, 40.0), 1),
            noise_exponent=round(generator.uniform(0.0, 2.0), 2),
        )
        for index in range(num_videos)
    ]


def coloured_noise(
    num_samples: int, exponent: float, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Noise [num_samples] of root mean square 1 whose power falls as frequency ** -exponent above 50 Hz."""
    num_transformed = 1 << (num_samples - 1).bit_length()  # powers of two transform several times faster
    spectrum = np.fft.rfft(generator.standard_normal(num_transformed))
    frequencies_hz = np.fft.rfftfreq(num_transformed, 1 / SYNTHESIS_RATE_HZ)
    spectrum *= np.maximum(frequencies_hz, 50.0) ** (-exponent / 2)
    noise = np.fft.irfft(spectrum, num_transformed)[:num_samples]
    return noise / np.sqrt(np.mean(noise**2))


def place_in_room(
    speech: npt.NDArray[np.float64], speaker: Speaker, generator: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Set the speaker's level, add a little silence before and after, and the room's noise over all of it."""
    num_before, num_after = (int(generator.uniform(*SILENCE_S) * SYNTHESIS_RATE_HZ) for _ in range(2))
    level = 10 ** (speaker.level_dbfs / 20)
    clip = np.pad(speech * level / np.sqrt(np.mean(speech**2)), (num_before, num_after))
    noise_level = level * 10 ** (-speaker.signal_to_noise_db / 20)
    clip += noise_level * coloured_noise(len(clip), speaker.noise_exponent, generator)
    return np.round(clip * 32767 * min(1.0, 0.99 / np.abs(clip).max())).astype("<i2")


def trimmed(speech: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """Speech without the silence (about 0.3 s) that the library puts behind it."""
    audible = np.flatnonzero(np.abs(speech.astype(np.int32)) > 50)
    return speech[audible[0] : audible[-1] + 1].astype(np.float64)


def speak_sentence(
    synthesizer: Synthesizer, sentence: Sentence, speaker: Speaker, max_duration_s: float
) -> npt.NDArray[np.float64]:
    """Speak a sentence, and again a little faster until it lasts no longer than `max_duration_s`."""
    rate_wpm = speaker.rate_wpm
    while True:
        synthesizer.set_voice(
            f"{speaker.dialect}+{speaker.variant}",
            rate_wpm=rate_wpm,
            pitch=speaker.pitch,
            pitch_range=speaker.pitch_range,
        )
        speech = trimmed(synthesizer.speak(sentence.segments, speaker.english_voice))
        if len(speech) <= max_duration_s * SYNTHESIS_RATE_HZ:
            return speech
        rate_wpm += 15


def speak_video(video: Video, data_path: Path) -> list[dict[str, str]]:
    """Speak all sentences of a video into WAV files. To be called once in a fresh process.

    Returns:
        One manifest row per sentence; `audio_path` is relative to the folder that holds the videos.
    """
    synthesizer = Synthesizer(data_path, seed=video.seed)
    max_speech_s = MAX_DURATION_S[video.sentence_length] - 2 * max(SILENCE_S)
    rows = []
    video.audio_dir.mkdir(parents=True, exist_ok=True)
    for index, sentence in enumerate(video.sentences):
        speech = speak_sentence(synthesizer, sentence, video.speaker, max_speech_s)
        digest = hashlib.sha256(f"noise {video.seed} {video.video_id} {index}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        clip = place_in_room(speech, video.speaker, generator)
        file_name = f"{index:04d}.wav"
        write_wav(video.audio_dir / file_name, clip)
        rows.append(
            {
                "id": f"{video.video_id}-{index:04d}",
                "audio_path": f"{video.video_id}/{file_name}",
                "transcript": sentence.transcript,
                "translation": sentence.translation,
                "duration": f"{len(clip) / SYNTHESIS_RATE_HZ:.3f}",
                "video_id": video.video_id,
                "speaker_id": video.video_id.replace("video", "speaker"),
            }
        )
    return rows


def write_wav(path: Path, samples: npt.NDArray[np.int16]) -> None:
    """Write mono 16-bit samples at `SYNTHESIS_RATE_HZ`."""
    with closing(wave.open(str(path), "wb")) as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SYNTHESIS_RATE_HZ)
        file.writeframes(samples.tobytes())
