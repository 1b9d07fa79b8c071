"""From sound to text with a trained model: clips, long recordings, subtitles.

>>> from vietst.inference import SpeechTranslator
>>> st = SpeechTranslator.from_pretrained("outputs/prod_whisper")
>>> print(st("clip.wav").translation)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vietst.inference.translator import SpeechTranslator as SpeechTranslator

__all__ = ["SpeechTranslator"]


def __getattr__(name: str) -> Any:
    """`SpeechTranslator` when it is first asked for: it brings torch and transformers along."""
    if name == "SpeechTranslator":
        from vietst.inference.translator import SpeechTranslator

        return SpeechTranslator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
