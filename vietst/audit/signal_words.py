"""What lies beyond a signal's threshold, in the words of those who listen."""

from collections.abc import Mapping
from typing import Final

_PHRASES: Final[Mapping[tuple[str, str], str]] = {
    ("audio_error", ""): "audio that cannot be used",
    ("duration", "<"): "short clip",
    ("duration", ">"): "long clip",
    ("syllables_per_second", "<"): "few syllables for the time",
    ("syllables_per_second", ">"): "many syllables for the time",
    ("syllable_rate_z", "<"): "slower than this speaker usually is",
    ("syllable_rate_z", ">"): "faster than this speaker usually is",
    ("speech", "<"): "little speech",
    ("music", ">"): "music",
    ("silence", ">"): "silence",
    ("noise", ">"): "noise without speech",
    ("level_dbfs", "<"): "too quiet",
    ("level_dbfs", ">"): "too loud",
    ("clipping", ">"): "clipped",
    ("snr_db", "<"): "noise behind the speech",
    ("edge_start_db", ">"): "begins in the middle of sound",
    ("edge_end_db", ">"): "ends in the middle of sound",
    ("duplicate_of", ""): "same audio as an earlier row",
    ("overlap_s", ">"): "overlaps another segment",
    ("length_ratio", "<"): "translation too short",
    ("length_ratio", ">"): "translation too long",
    ("copy", ">"): "translation is the transcript",
    ("shared_words", "<"): "translation of something else",
    ("wrong_language", ""): "text in another language",
    ("untranslated_english", ">"): "English left in the translation",
    ("number_mismatch", ">"): "numbers disagree",
    ("wer", ">"): "the model hears something else",
    ("inserted_start", ">"): "words heard before the transcript begins",
    ("inserted_end", ">"): "words heard after the transcript ends",
    ("deleted_start", ">"): "the transcript's first words are not heard",
    ("deleted_end", ">"): "the transcript's last words are not heard",
    ("inner_wer", ">"): "the model hears other words inside",
    ("logprob_per_second", "<"): "transcript improbable to the model",
    ("logprob_gap", ">"): "the model's own text is more probable",
    ("translation_chrf", "<"): "the model translates otherwise",
    ("translation_logprob_per_second", "<"): "translation improbable to the model",
    ("translation_logprob_gap", ">"): "the model's own translation is more probable",
}


def phrase(signal: str, sign: str) -> str:
    """In a few words what `signal < …`, `signal > …`, or of a name `signal`, finds.

    Args:
        sign: `<` or `>`; of names and of other expressions "".
    """
    candidates = (_PHRASES.get((signal, other)) for other in (sign, "", ">", "<"))
    return next(filter(None, candidates), signal.replace("_", " "))
