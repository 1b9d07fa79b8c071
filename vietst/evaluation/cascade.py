"""A cascade: the run's transcripts, translated as texts by a translation model, as a baseline beside it."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from vietst.environment import environment_record
from vietst.evaluation.baseline_runs import BaselineRun
from vietst.evaluation.kept_results import kept_predictions, made_from_fact
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.model_predictions import device_and_dtype
from vietst.evaluation.scoring import ScoredRun, ScoringOptions
from vietst.models.loading import model_version
from vietst.models.text_translation import CAPS_ID, LanguagePair, TextTranslator
from vietst.text_style import styled

NAME_OF_CASCADE: Final = "{run}_cascade_{model}"


@dataclasses.dataclass(frozen=True)
class CascadeOptions:
    """Which translation model, and how it is asked."""

    model: str
    """A folder or Hub id."""

    languages: LanguagePair
    batch_size: int


class Cascade:
    """A translation model that is known to be there, before there are transcripts.

    Raises:
        ModelError: no text translation model there, or one that does not know the languages.
    """

    def __init__(self, options: CascadeOptions, run_name: str) -> None:
        device, dtype = device_and_dtype()
        if dtype == torch.float16:  # T5 and its kin overflow in it
            dtype = torch.float32
        self._options = options
        self._translator = TextTranslator(options.model, options.languages, device, dtype)
        self.name = NAME_OF_CASCADE.format(run=run_name, model=Path(options.model).name)

    def of(self, run: Sequence[Prediction]) -> BaselineRun:
        """The cascade behind the transcripts of a run."""
        return BaselineRun(self.name, lambda options: self._predictions(run, options))

    def _predictions(self, run: Sequence[Prediction], options: ScoringOptions) -> Sequence[Prediction]:
        # None in a predictions file: nothing was said, and nothing written.
        transcripts = [prediction.transcript_hypothesis or "" for prediction in run]
        made_from = {
            "translation_model": model_version(self._options.model),
            "languages": dataclasses.asdict(self._options.languages),
            "caps": CAPS_ID,
            "utterances": _digest([f"{p.id}\t{p.transcript}\t{p.translation}" for p in run]),
            "transcripts": _digest(transcripts),
        }

        def make() -> ScoredRun:
            texts = self._translator.translate(transcripts, self._options.batch_size)
            facts = {
                "translation_model": self._options.model,
                "translation_model_version": made_from["translation_model"],
                "languages": dataclasses.asdict(self._translator.languages),
                **made_from_fact(made_from),
                "environment": environment_record(),
            }
            translated = [
                dataclasses.replace(prediction, translation_hypothesis=styled(text, prediction.text_style))
                for prediction, text in zip(run, texts, strict=True)
            ]
            return ScoredRun(self.name, translated, facts)

        return kept_predictions(self.name, made_from, options, make)


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
