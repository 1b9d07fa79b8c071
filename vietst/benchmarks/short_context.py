"""Benchmark stage `short_context`: short clips in short windows of Whisper's encoder, and in its whole one.

The same random weights train and generate in every window, turn by turn: a training step (forward, backward
and the optimizer's) on both targets of each clip, and greedy generation of both from one encoder pass. What a
training gains is told twice: in the window that the clips need, and on average with the longer ones that
`audio.context_longer_share` draws. On a machine with other work on it, look at the processor time.

The second follows from the first. Where the longer windows, all drawn equally often, cost m times what the
clips' own costs on average, a share s of them makes the mean step 1 + s (m - 1) times as long, and divides
the gain by that. Seen for clips of 5 s: gain 3.59 and m 2.05 at the dimensions of Whisper tiny, 4.55 and 2.44
at those of Whisper small; a gain of 3 is left with up to 18 % and 35 % of longer windows.
"""

import dataclasses
import functools
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from vietst.benchmarks.results import Bar
from vietst.benchmarks.training_step import (
    StepCase,
    StepWorkload,
    TrainerSteps,
    made_up_batch,
    whisper_case,
)
from vietst.benchmarks.untrained_whisper import SHAPES, WhisperShape, make_untrained_whisper
from vietst.config_schema import AudioSection
from vietst.constants import TASKS
from vietst.data.context import Context, windows_of
from vietst.data.features import LOG_MEL_80
from vietst.models import whisper, whisper_generation, whisper_inputs
from vietst.runtime import get_logger

MIN_TIMES_FASTER: Final = 3.0
"""How many times as many clips of 5 s a second of work should take, against the window of 30 s."""


logger = get_logger(__name__)


@dataclasses.dataclass(frozen=True)
class Work:
    """The batch of every step and generation: clips of one length, both targets of each."""

    num_utterances: int = 2
    num_label_tokens: int = 40
    """Of each target, prompt included."""
    num_generated_tokens: int = 24
    """For each clip and task."""
    num_decoded_utterances: int = 8
    """In a batch of generation: more than in training, since they share the cost of the decoder's steps."""


def measure(models: Sequence[str], num_utterances: int, num_rounds: int) -> dict[str, Any]:
    """`compare_windows` with batches of so many clips."""
    return compare_windows(models, Work(num_utterances), num_rounds=num_rounds)


def bars(results: dict[str, Any]) -> list[Bar]:
    """At 5 s, for which the bar was set."""
    return [
        Bar(f"{case['name']}, 5 s clips, {what}: times as many", gain[key], MIN_TIMES_FASTER, at_least=True)
        for case in results["cases"]
        for gain in case["gains"]
        if gain["duration_s"] == 5.0
        for what, key in (
            ("training", "train_times_faster"),
            ("training, longer windows included", "train_times_faster_with_longer_windows"),
            ("generation", "generate_times_faster"),
        )
    ]


def compare_windows(
    models: Sequence[str],
    work: Work,
    *,
    num_rounds: int,
    durations_s: Sequence[float] = (5.0, 3.0),
    shapes: Mapping[str, WhisperShape] = SHAPES,
) -> dict[str, Any]:
    """Processor seconds in the windows that the clips need, in training in all longer ones too.

    Args:
        models: names of `shapes`.
        num_rounds: timed steps and generations in each window, after one that is not counted.
    """
    audio = AudioSection()
    context = Context.of(LOG_MEL_80, windows_of(audio))
    cases = []
    for name in models:
        shape = shapes[name]
        logger.info("measuring Whisper %s", name)
        seconds = _seconds_by_window(shape, context, work, durations_s, num_rounds)
        gains = [_gains(duration_s, context, seconds, audio) for duration_s in durations_s]
        cases.append(
            {
                "name": f"Whisper {name}",
                "shape": dataclasses.asdict(shape),
                "gains": gains,
                **{
                    f"{what}_cpu_seconds": {f"{s:g}": [round(t, 4) for t in times] for s, times in of.items()}
                    for what, of in seconds.items()
                },
            }
        )
        gc.collect()
    return {
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "num_threads": torch.get_num_threads(),
        "dtype": "float32",
        "num_rounds": num_rounds,
        "longer_share": audio.context_longer_share,
        **dataclasses.asdict(work),
        "cases": cases,
    }


Seconds = dict[str, dict[float, list[float]]]
"""`train`, `generate` → window in seconds → measured processor seconds."""


def _seconds_by_window(
    shape: WhisperShape, context: Context, work: Work, durations_s: Sequence[float], num_rounds: int
) -> Seconds:
    needed = sorted(map(context.index_of_duration, durations_s))
    kinds = context.input_kinds[needed[0] :]
    heard_in_generation = {context.input_kind, *(context.input_kinds[index] for index in needed)}
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as folder:
        model_dir = str(make_untrained_whisper(Path(folder, "model"), shape))
        model = whisper.load_model(model_dir, model_class=whisper.MultitaskWhisper)
        model.generation_config.min_new_tokens = work.num_generated_tokens
        tokenizer = whisper_inputs.load_processor(model_dir).tokenizer
        case: StepCase = whisper_case("", model.config, MIN_TIMES_FASTER)
        batch = made_up_batch(case, StepWorkload(work.num_utterances, num_label_tokens=work.num_label_tokens))
        steps = TrainerSteps(folder)
        ways: dict[str, dict[float, Callable[[], object]]] = {"train": {}, "generate": {}}
        for kind in kinds:
            features = batch["input_features"][..., : kind.num_window_frames].contiguous()
            ways["train"][kind.window_s] = steps.of(model, {**batch, "input_features": features})
            if kind in heard_in_generation:
                clips = features[:1].expand(work.num_decoded_utterances, -1, -1)
                ways["generate"][kind.window_s] = functools.partial(_generate, model, tokenizer, clips, work)
        seconds: Seconds = {what: {window_s: [] for window_s in of} for what, of in ways.items()}
        for round_number in range(num_rounds + 1):
            for what, of_windows in ways.items():
                model.train(what == "train")
                for window_s, do in of_windows.items():
                    started_at = time.process_time()
                    do()
                    if round_number > 0:
                        seconds[what][window_s].append(time.process_time() - started_at)
    return seconds


def _generate(model: Any, tokenizer: Any, features: torch.Tensor, work: Work) -> torch.Tensor:
    states = whisper_generation.encode(model, {"input_features": features})
    return whisper_generation.generate(
        model, tokenizer, states, TASKS, language="vi", max_new_tokens=work.num_generated_tokens
    )


def _gains(duration_s: float, context: Context, seconds: Seconds, audio: AudioSection) -> dict[str, Any]:
    """How many times faster clips of this length are than in the whole window."""
    own_s = context.windows_s[context.index_of_duration(duration_s)]
    train, generate = (
        {window_s: statistics.median(times) for window_s, times in seconds[what].items()}
        for what in ("train", "generate")
    )
    full_s, share = context.windows_s[-1], audio.context_longer_share
    longer = statistics.mean(cost for window_s, cost in train.items() if window_s > own_s) / train[own_s]
    return {
        "duration_s": duration_s,
        "window_s": own_s,
        "train_times_faster": round(train[full_s] / train[own_s], 2),
        "longer_windows_cost_times": round(longer, 2),
        "train_times_faster_with_longer_windows": round(
            train[full_s] / train[own_s] / (1 + share * (longer - 1)), 2
        ),
        "generate_times_faster": round(generate[full_s] / generate[own_s], 2),
    }


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    lines = [
        f"both tasks: training on {results['num_utterances']} clips, {results['num_label_tokens']} label "
        f"tokens each; generating {results['num_generated_tokens']} tokens each for "
        f"{results['num_decoded_utterances']} clips; {results['dtype']}, "
        f"{results['device']}, {results['num_threads']} thread(s), median of {results['num_rounds']}, "
        "processor time",
        f"{'':<15}{'clip':>6}{'window':>8}{'training step':>16}{'with longer windows':>21}{'generation':>13}",
    ]
    for case in results["cases"]:
        for gain in case["gains"]:
            lines.append(
                f"{case['name']:<15}{gain['duration_s']:>4g} s{gain['window_s']:>6g} s"
                f"{gain['train_times_faster']:>15.2f}x"
                f"{gain['train_times_faster_with_longer_windows']:>20.2f}x"
                f"{gain['generate_times_faster']:>12.2f}x"
            )
    lines.append(
        f"times as many clips as in the window of 30 s; longer windows: drawn for "
        f"{results['longer_share']:.0%} of the steps; bar at 5 s: {MIN_TIMES_FASTER:g}"
    )
    return "\n".join(lines)
