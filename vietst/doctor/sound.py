"""Reading audio and speaking: soundfile, ffmpeg's libraries, soxr, the voice activity detector, espeak-ng."""

import io
from collections.abc import Iterator

from vietst.doctor.findings import Finding, Status
from vietst.doctor.fresh_process import run_in_fresh_process

DECODERS = ("aac", "mp3", "opus", "vorbis", "h264")
"""What recordings from phones, browsers and video sites are made of."""

_SPEAK = """
from vietst.data.speech_synthesis import Synthesizer, synthesis_data
with synthesis_data() as data_path:
    synthesizer = Synthesizer(data_path, seed=1)
    synthesizer.set_voice("vi", rate_wpm=180, pitch=50, pitch_range=50)
    print(len(synthesizer.speak([("vi", "xin chào")], "en-us")), "samples")
"""


def check_soundfile() -> Iterator[Finding]:
    import numpy as np
    import soundfile
    import soxr

    tone = np.sin(np.arange(4410) * 0.1).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, tone, 44_100, format="FLAC")
    file.seek(0)
    decoded, rate_hz = soundfile.read(file, dtype="float32")
    resampled = soxr.resample(decoded, rate_hz, 16_000, quality="HQ")
    if len(resampled) != 1600 or np.abs(decoded - tone).max() > 1e-3:
        yield Finding(
            Status.MEND,
            "soundfile, soxr",
            "a tone is not the same after writing and reading",
            "pip install --force-reinstall soundfile soxr",
        )
    elif "MP3" not in soundfile.available_formats():
        yield Finding(
            Status.WARNING,
            "soundfile, soxr",
            f"libsndfile {soundfile.__libsndfile_version__} reads no MP3",
            "pip install --upgrade soundfile, whose wheels carry a newer libsndfile",
        )
    else:
        yield Finding(
            Status.OK, "soundfile, soxr", f"libsndfile {soundfile.__libsndfile_version__}: WAV, FLAC, MP3 …"
        )


def check_ffmpeg() -> Iterator[Finding]:
    import av

    missing = [name for name in DECODERS if name not in av.codecs_available]
    if missing:
        yield Finding(
            Status.WARNING,
            "ffmpeg's libraries (av)",
            f"no decoder for {', '.join(missing)}",
            "pip install --force-reinstall av, whose wheels carry all of ffmpeg's decoders",
        )
    else:
        yield Finding(Status.OK, "ffmpeg's libraries (av)", f"av {av.__version__}: MP4, M4A, WebM …")


def check_espeak() -> Iterator[Finding]:
    """In a process of its own: a library that does not fit the machine ends the process that loads it."""
    works, said = run_in_fresh_process(_SPEAK, timeout_s=60)
    if works:
        yield Finding(Status.OK, "espeak-ng", f"speaks ({said})")
    else:
        yield Finding(
            Status.WARNING,
            "espeak-ng",
            f"does not speak: {said}",
            "pip install --force-reinstall espeakng-loader; only the sample corpus needs it",
        )
