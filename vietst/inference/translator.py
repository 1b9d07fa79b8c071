"""`SpeechTranslator`: a trained model, and everything between a recording and its texts."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from vietst.constants import SAMPLE_RATE_HZ, TASKS, TRANSCRIBE, TRANSLATE
from vietst.errors import ModelError, VietstError
from vietst.inference.audio_input import Audio
from vietst.inference.batches import batch_budget_s
from vietst.inference.clip_decoder import ClipDecoder
from vietst.inference.recordings import SpeechPiece, speech_pieces
from vietst.inference.results import Said, Segment, SpeechResult
from vietst.inference.voice_activity import load_network
from vietst.models.architectures import ARCHITECTURES
from vietst.models.loading import model_folder
from vietst.models.model_record import ModelRecord, read_model_record
from vietst.data.features import input_kind_of

BOTH: Final = "both"

_BATCHES_AHEAD: Final = 4
"""So many batches of speech are gathered before they are sorted by length and decoded."""
