"""Spoken Vietnamese with English words inside, from the espeak-ng library that `espeakng-loader` carries.

The library is called through `ctypes`: no system package, no files in between, a few milliseconds an
utterance. English words must be marked, or "code" and "bug" are read as Vietnamese. They are marked by a
nested SSML `<voice name="en-us">` without variant: the library then keeps the variant (the timbre) of the
Vietnamese voice around it, so that both languages have one speaker. With a variant in the tag ("en-us+f2")
espeak-ng 1.52 finds no such voice and stays Vietnamese without a word.
"""

import ctypes
import html
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from vietst.errors import VietstError

SYNTHESIS_RATE_HZ: Final = 22_050
"""Sample rate of everything espeak-ng speaks."""

MAX_DATA_PATH_BYTES: Final = 150
"""espeak-ng 1.52 keeps its data path in 160 bytes; with longer ones it finds no data."""

# Names and values from espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS: Final = 2
_INITIALIZE_DONT_EXIT: Final = 0x8000
_CHARS_UTF8, _SSML = 1, 0x10
_RATE, _PITCH, _RANGE = 1, 3, 4
_POS_CHARACTER: Final = 1

_SynthesisCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def _loader() -> tuple[Path, Path]:
    """Where the library and its data lie."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise VietstError(
            where="the sample corpus",
            rule="the Python package espeakng-loader is installed (it carries the speech synthesizer)",
            found=f"{error}",
            do="pip install espeakng-loader",
        ) from error
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


@contextmanager
def synthesis_data() -> Iterator[Path]:
    """The folder of espeak-ng's data under a path short enough for the library.

    Deep virtual environments have paths that espeak-ng cannot hold; then the few files that are needed here
    (2 MB) are copied to a temporary folder for as long as the context lasts.
    """
    _, installed = _loader()
    if len(os.fsencode(installed)) <= MAX_DATA_PATH_BYTES:
        yield installed
        return

    def not_needed(_folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name.endswith("_dict") and name not in ("vi_dict", "en_dict")]

    with tempfile.TemporaryDirectory(prefix="vietst-espeak-") as folder:
        yield Path(shutil.copytree(installed, Path(folder) / "espeak-ng-data", ignore=not_needed))


class Synthesizer:
    """The espeak-ng library of this process. One process can hold only one.

    The library carries state from one utterance to the next (pitch flutter, gain control), so the same text
    does not give the same samples twice. The same sequence of calls in a fresh process does.

    Args:
        data_path: folder of espeak-ng's data, from `synthesis_data`.
        seed: of the library's own random numbers (breath noise).

    Raises:
        VietstError: the package is missing, or the library does not start.
    """

    def __init__(self, data_path: Path, seed: int) -> None:
        library_path, _ = _loader()
        self._library = ctypes.CDLL(str(library_path))
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        path = str(data_path).encode("mbcs" if os.name == "nt" else "utf-8")
        rate_hz = self._library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, path, _INITIALIZE_DONT_EXIT)
        if rate_hz != SYNTHESIS_RATE_HZ:
            raise VietstError(
                where=str(library_path),
                rule=f"espeak-ng starts and speaks at {SYNTHESIS_RATE_HZ} Hz",
                found=f"espeak_Initialize returned {rate_hz} with the data in {data_path}",
                do="reinstall the package: pip install --force-reinstall espeakng-loader",
            )
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._blocks: list[npt.NDArray[np.int16]] = []
        self._callback = _SynthesisCallback(self._collect)  # kept: the library holds only a bare pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: "ctypes._Pointer[ctypes.c_short]", num_samples: int, _events: int) -> int:
        if num_samples > 0 and samples:
            self._blocks.append(np.ctypeslib.as_array(samples, (num_samples,)).copy())
        return 0

    def set_voice(self, voice: str, *, rate_wpm: int, pitch: int, pitch_range: int) -> None:
        """Choose who speaks.

        Args:
            voice: language and variant, as in "vi-vn-x-south+f2".
            rate_wpm: words a minute, 80 to 450.
            pitch: 0 to 99, 50 is the variant's own.
            pitch_range: 0 (monotone) to 99.

        Raises:
            ValueError: the library has no such voice.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((_RATE, rate_wpm), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)

    def speak(self, segments: Sequence[tuple[str, str]], english_voice: str) -> npt.NDArray[np.int16]:
        """Speak one utterance with the voice set before.

        Args:
            segments: pieces of one language, `[("vi", "mình sẽ"), ("en", "fix"), …]`.
            english_voice: name of the voice for "en" pieces, without variant: "en-us".

        Returns:
            int16 [num_samples] at `SYNTHESIS_RATE_HZ`.
        """
        pieces = []
        for language, text in segments:
            escaped = html.escape(text, quote=False)
            pieces.append(f'<voice name="{english_voice}">{escaped}</voice>' if language == "en" else escaped)
        markup = f"<speak>{' '.join(pieces)}</speak>".encode()
        self._blocks.clear()
        status = self._library.espeak_Synth(
            markup, len(markup) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8 | _SSML, None, None
        )
        if status != 0 or not self._blocks:
            raise RuntimeError(f"espeak-ng returned status {status} and no sound for {segments}")
        return np.concatenate(self._blocks)
