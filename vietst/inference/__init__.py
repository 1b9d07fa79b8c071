"""From sound to text with a trained model: clips, long recordings, subtitles.

from vietst.inference import SpeechTranslator
"""
