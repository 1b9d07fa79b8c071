"""`SpeechTranslator`: a trained model, and everything between a recording and its texts."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from vietst.config_schema import ContextChoice
from vietst.constants import BOTH, SAMPLE_RATE_HZ, TASKS, TRANSCRIBE, TRANSLATE
from vietst.errors import ModelError, VietstError
from vietst.full_memory import is_out_of_memory
from vietst.inference.audio_input import Audio
from vietst.inference.batches import batch_budget_s, batches_by_length
from vietst.inference.clip_decoder import ClipDecoder, load_clip_decoder
from vietst.inference.recordings import SpeechPiece, speech_pieces
from vietst.inference.results import Said, Segment, SpeechResult
from vietst.inference.voice_activity import load_network

_BATCHES_AHEAD: Final = 4
"""So many batches of speech are gathered, from as many recordings as it takes, before they are sorted by
length and decoded."""
_MIN_SEGMENT_LIMIT_S: Final = 1.0


class SpeechTranslator:
    """Transcribes and translates recordings of any length.

    >>> st = SpeechTranslator.from_pretrained("outputs/prod_whisper")
    >>> result = st("talk.mp3")
    >>> print(result.transcript, result.translation, sep="\\n")
    """

    def __init__(
        self,
        decoder: ClipDecoder,
        vad_network: nn.Module,
        model_name: str,
        *,
        batch_budget_s: float | None = None,
    ) -> None:
        """Use `from_pretrained`.

        Args:
            batch_budget_s: seconds of audio in a batch; None: what the device can take.
        """
        self._decoder, self._vad_network = decoder, vad_network
        self.model_name = model_name
        self._batch_budget_s = batch_budget_s

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        revision: str | None = None,
        context: ContextChoice | None = None,
    ) -> "SpeechTranslator":
        """Load a run folder, a released model or a stock Whisper, from a folder or the Hub.

        Args:
            device: None: a GPU where there is one.
            dtype: None: half precision on an NVIDIA GPU (bfloat16 where it can), else float32.
            revision: branch, tag or commit of a repository on the Hub.
            context: of a Whisper: `full`: it hears every segment in its whole window; `bucketed`: in the
                shortest window that fits; None: as it was trained.

        Raises:
            ModelError: nothing usable there.
        """
        name = str(name_or_path)
        decoder = load_clip_decoder(name, device=device, dtype=dtype, revision=revision, context=context)
        return cls(decoder, load_network(), name)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the model was trained for; of a stock Whisper, `transcribe`."""
        return self._decoder.record.tasks

    @property
    def model_type(self) -> str:
        """`whisper` or `e2e`."""
        return self._decoder.record.architecture

    @property
    def context(self) -> ContextChoice:
        """`bucketed`: it hears each segment in the shortest window that fits; else `full`."""
        return "full" if self._decoder.record.context is None else "bucketed"

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        device: torch.device = self._decoder.model.device
        return device

    @property
    def window_s(self) -> float:
        """What the model hears at once."""
        return self._decoder.input_kind.window_s

    def __call__(
        self, audio: Audio, *, task: str | None = None, max_segment_s: float | None = None
    ) -> SpeechResult:
        """What is said in one recording; see `each`.

        Raises:
            VietstError: a recording that cannot be read, or a task that the model was not trained for.
        """
        (result,) = self.each([audio], task=task, max_segment_s=max_segment_s)
        if isinstance(result, VietstError):
            raise result
        return result

    def each(
        self,
        audios: Iterable[Audio],
        *,
        task: str | None = None,
        max_segment_s: float | None = None,
        on_progress: Callable[[float], object] | None = None,
    ) -> Iterator[SpeechResult | VietstError]:
        """What is said in recordings, in their order; a recording that cannot be read gives its error.

        A recording that fits `max_segment_s` is one segment, and heard whole, as the clips of training are. A
        longer one is cut at pauses. Where nobody speaks there are no segments. Batches hold pieces of several
        recordings, and no more sound than that of a few batches is in memory at once.

        Args:
            audios: paths, bytes of files, or arrays: see `Audio`. They are taken one by one.
            task: `transcribe`, `translate` or `both`; None: all that the model was trained for.
            max_segment_s: longest segment; None: what the model hears at once (30 s). That is the fastest,
                since Whisper takes as long for a short clip as for its whole window (if it was not trained in
                shorter ones), and gives it the most context. Subtitles want about 7.
            on_progress: called again and again with the seconds of audio that were done since the last call.

        Raises:
            VietstError: a task that the model was not trained for, or a limit of less than a second.
        """
        tasks = self.tasks_of(task)
        if max_segment_s is not None and not max_segment_s >= _MIN_SEGMENT_LIMIT_S:  # nor NaN
            raise VietstError(
                where="max_segment_s",
                rule=f"at least {_MIN_SEGMENT_LIMIT_S:g} s, in which something can be said",
                found=f"{max_segment_s:g}",
                do="write some seconds; 7 suits subtitles",
            )
        limit_s = min(max_segment_s or self.window_s, self.window_s)
        heard = self._heard(audios, round(limit_s * SAMPLE_RATE_HZ))
        return self._results(heard, tasks, on_progress or (lambda _: None))

    def tasks_of(self, task: str | None) -> tuple[str, ...]:
        """The tasks that a `task` of `each` stands for.

        Raises:
            ModelError: one that the model was not trained for.
        """
        asked = self.tasks if task is None else TASKS if task == BOTH else (task,)
        if not set(asked) <= set(self.tasks):
            is_stock = self._decoder.record.vietst_version is None and self.tasks == (TRANSCRIBE,)
            raise ModelError(
                where=f"task of model {self.model_name}",
                rule="what the model was trained for: " + " and ".join(self.tasks),
                found=repr(task),
                do="ask for transcribe; the translate of a stock Whisper would speak English"
                if is_stock and task in (TRANSLATE, BOTH)
                else f"ask for {self.tasks[0]}, or name a model that was trained for it",
            )
        return asked

    def _heard(
        self, audios: Iterable[Audio], limit_samples: int
    ) -> Iterator[SpeechPiece | float | VietstError]:
        """The pieces of one recording after the other, and behind each recording its end."""
        for audio in audios:
            try:
                yield from speech_pieces(audio, self._vad_network, limit_samples)
            except VietstError as error:
                yield error

    def _results(
        self,
        heard: Iterator[SpeechPiece | float | VietstError],
        tasks: tuple[str, ...],
        on_progress: Callable[[float], object],
    ) -> Iterator[SpeechResult | VietstError]:
        budget_s = self._batch_budget_s or batch_budget_s(self._decoder, len(tasks))
        gathered: list[SpeechPiece | float | VietstError] = []
        segments: list[Segment] = []
        num_gathered_s = 0.0

        def decoded() -> Iterator[SpeechResult | VietstError]:
            found = iter(
                self._segments([item for item in gathered if isinstance(item, SpeechPiece)], tasks, budget_s)
            )
            for item in gathered:
                done_s = segments[-1].end_s if segments else 0.0
                if isinstance(item, SpeechPiece):
                    segments.append(next(found))
                    on_progress(item.end_s - done_s)
                    continue
                if not isinstance(item, VietstError):
                    on_progress(item - done_s)
                yield item if isinstance(item, VietstError) else SpeechResult(item, tasks, tuple(segments))
                segments.clear()
            gathered.clear()

        for item in heard:
            gathered.append(item)
            if isinstance(item, SpeechPiece):
                num_gathered_s += self._decoder.cost_s(item.duration_s)
            # Where nothing waits to be decoded, an answer need not wait either.
            if num_gathered_s == 0.0 or num_gathered_s >= _BATCHES_AHEAD * budget_s:
                yield from decoded()
                num_gathered_s = 0.0
        yield from decoded()

    def _segments(self, pieces: list[SpeechPiece], tasks: tuple[str, ...], budget_s: float) -> list[Segment]:
        segments: dict[int, Segment] = {}
        costs_s = [self._decoder.cost_s(piece.duration_s) for piece in pieces]
        # Clips of one window: what is said in one does not depend on the others.
        for batch in batches_by_length(costs_s, budget_s, of_equal_costs=self._decoder.hears_windows):
            said = self._said([pieces[index].waveform for index in batch], tasks)
            for index, outputs in zip(batch, said, strict=True):
                segments[index] = Segment(pieces[index].start_s, pieces[index].end_s, outputs)
        return [segments[index] for index in range(len(pieces))]

    def _said(self, waveforms: list[np.ndarray], tasks: tuple[str, ...]) -> list[dict[str, Said]]:
        """What is said in clips: as one batch, or in halves where the GPU's memory does not suffice."""
        try:
            return self._decoder(waveforms, tasks)
        except (RuntimeError, MemoryError) as error:
            if len(waveforms) == 1 or not is_out_of_memory(error):
                raise
        # Outside of the handler, which would keep the tensors of the failed attempt.
        half = len(waveforms) // 2
        return self._said(waveforms[:half], tasks) + self._said(waveforms[half:], tasks)
