"""How fast a training goes, and what holds it up: measured beside the steps, over all processes.

The log's keys, over the time since the entry before, and in the training's results over all of it:

    utterances_per_s          of all processes
    audio_s_per_s             seconds of audio, without padding, per second
    padding_share             of the encoder's input: what is no audio, of frames or samples
    data_wait_share           of the time: the processes' mean wait for their next batches
    peak_memory_gb            since the start, of 2^30 bytes, in the process that had most: what PyTorch
                              allocated on the GPU; without one, resident memory
    model_flops_utilization   see `vietst.training.model_flops`; in half precision on known GPUs

The time is that of the steps, from asking for their batches to their ends, without evaluations and
checkpoints. Nothing waits for the device, except when an entry is logged.
"""

import dataclasses
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vietst.data.packed_clips import PackedClips
from vietst.training.memory_plan import GIBIBYTE


@dataclasses.dataclass
class Span:
    """What one process did in a stretch of training, or several together.

    `num_heard` of `num_padded` frames or samples in the encoder's input are audio.
    """

    seconds: float = 0.0
    wait_s: float = 0.0
    num_utterances: int = 0
    audio_s: float = 0.0
    num_heard: int = 0
    num_padded: int = 0
    flops: float = 0.0

    def __add__(self, other: "Span") -> "Span":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Span(*(mine + its for mine, its in pairs))


def throughput(spans: Sequence[Span], peak_memory_bytes: int, peak_flops: float | None) -> dict[str, float]:
    """The figures of the log.

    Args:
        spans: of every process, over the same steps.
        peak_memory_bytes: of the process that had most.
        peak_flops: operations per second that each process's GPU could do; None: not known.
    """
    total = sum(spans, Span())
    if not total.num_utterances:
        return {}
    seconds = total.seconds / len(spans)
    figures = {
        "utterances_per_s": total.num_utterances / seconds,
        "audio_s_per_s": total.audio_s / seconds,
        "data_wait_share": total.wait_s / total.seconds,
        "peak_memory_gb": peak_memory_bytes / GIBIBYTE,
    }
    if total.num_padded:
        figures["padding_share"] = 1 - total.num_heard / total.num_padded
    if peak_flops is not None:
        figures["model_flops_utilization"] = total.flops / (total.seconds * peak_flops)
    return figures


class ThroughputMeter(TrainerCallback):
    """Measures the steps of this process.

    Args:
        peak_flops: see `throughput`.
        flops_of_batch: operations that a collator's batch needs; called where `peak_flops` is known.
    """

    def __init__(
        self,
        peak_flops: float | None = None,
        flops_of_batch: Callable[[Mapping[str, Any]], float] | None = None,
    ) -> None:
        self._peak_flops, self._flops_of_batch = peak_flops, flops_of_batch
        self._span, self._before = Span(), Span()
        self._durations_s: list[torch.Tensor] = []
        self._step_started_at: float | None = None

    def timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The same batches, of a step that begins now; waiting for them is measured."""
        self._step_started_at = time.perf_counter()
        while True:
            asked_at = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._span.wait_s += time.perf_counter() - asked_at
            self._count(batch)
            yield batch

    def _count(self, batch: Mapping[str, Any]) -> None:
        self._span.num_utterances += len(batch["duration_s"])
        self._durations_s.append(batch["duration_s"])
        for clips in batch.values():
            # Cached states of Whisper have no mask: they fill its window.
            if isinstance(clips, PackedClips) and clips.mask_name is not None:
                self._span.num_heard += sum(clips.lengths)
                self._span.num_padded += len(clips.lengths) * clips.padded_length
        if self._flops_of_batch is not None:
            self._span.flops += self._flops_of_batch(batch)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self._step_started_at is not None
        self._span.seconds += time.perf_counter() - self._step_started_at

    def since_last_time(self) -> dict[str, float]:
        """The figures since the last call. All processes call it together."""
        span = self._finished_span()
        self._before, self._span = self._before + span, Span()
        return self._of_all_processes(span)

    def of_training(self) -> dict[str, float]:
        """The figures since the start. All processes call it together."""
        return self._of_all_processes(self._before + self._finished_span())

    def _finished_span(self) -> Span:
        if self._durations_s:
            self._span.audio_s += float(torch.cat(self._durations_s).cpu().double().sum())
        self._durations_s = []
        return self._span

    def _of_all_processes(self, span: Span) -> dict[str, float]:
        of_all = gather_object([(span, peak_memory_bytes())])
        return throughput([span for span, _ in of_all], max(peak for _, peak in of_all), self._peak_flops)


_LINUX_STATUS: Final = Path("/proc/self/status")
"""Some sandboxes leave the peak out."""


def peak_memory_bytes() -> int:
    """Most memory that this process had: allocated by PyTorch on its GPU, or resident without one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    # On Linux not `ru_maxrss`: there, a process inherits the peak of the one that has started it.
    status = _LINUX_STATUS.read_text(encoding="utf-8") if _LINUX_STATUS.exists() else ""
    if (own_peak := re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)) is not None:
        return 1024 * int(own_peak[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def describe_throughput(logs: Mapping[str, float]) -> str:
    """The figures of a log entry, for its line."""
    forms = {
        "utterances_per_s": "{:.1f} utterances/s",
        "audio_s_per_s": "{:.1f} s of audio/s",
        "padding_share": "padding {:.0%}",
        "data_wait_share": "data wait {:.0%}",
        "peak_memory_gb": "peak {:.2f} GB",
        "model_flops_utilization": "FLOPs utilization {:.0%}",
    }
    return "  ".join(form.format(logs[name]) for name, form in forms.items() if name in logs)
