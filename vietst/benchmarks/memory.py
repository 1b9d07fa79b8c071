"""Benchmark stage `memory`: the forecast of the memory plan against what training really takes, and the
forecast of a step on both tasks against that of the doubled batch, as most recipes train them.

A process of its own builds the model with random weights, makes the optimizer's state, takes one training
step and reports the most memory that it had, less what it had after imports and a tiny step. On Linux that is
the resident set, with glibc told to give every large block back at once: by default it keeps freed blocks,
and the resident set is up to a sixth larger than what is in use. With a GPU, PyTorch's allocator reports.
"""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from vietst.benchmarks.results import Bar
from vietst.errors import VietstError
from vietst.training.memory_plan import CUDA_CONTEXT_BYTES, StepSettings, gigabytes, plan_memory
from vietst.training.memory_steps import Workload, e2e_step, whisper_step
from vietst.training.memory_trace import (
    BATCH,
    GRADIENTS,
    LOGITS_AND_LOSS,
    WEIGHTS,
    Build,
    Device,
    Precision,
    trace_training_step,
)

MAX_DEVIATION: Final = 0.15
"""How far the forecast may be from what is measured, as a share of the latter."""

MIN_LOGITS_RATIO: Final = 10.0
"""How many times less all logits and log-probabilities should take than with the doubled batch."""

MIN_ACTIVATIONS_RATIO: Final = 1.9
"""The same of all that a pass holds at its fullest, besides weights, their gradients and the batch."""

_STATUS: Final = Path("/proc/self/status")


@dataclasses.dataclass(frozen=True)
class MemoryCase:
    """A training step to forecast and to measure.

    `config` holds the differences to transformers' default configuration of the architecture; for e2e under
    the keys `encoder` and `decoder`. `frozen_parts` and `finetune` are those of `TrainingScope`.
    """

    name: str
    architecture: Literal["whisper", "e2e"]
    config: Mapping[str, Any]
    workload: Workload
    finetune: Literal["full", "lna", "lora"] = "full"
    frozen_parts: tuple[str, ...] = ()
    settings: StepSettings = dataclasses.field(default_factory=StepSettings)

    def step(self) -> Build:
        """The step that is forecast, and taken."""
        from transformers import MBartConfig, SpeechEncoderDecoderConfig, Wav2Vec2Config, WhisperConfig

        from vietst.models.trainable import TrainingScope

        scope = TrainingScope(self.finetune, frozenset(self.frozen_parts))  # type: ignore[arg-type]
        if self.architecture == "whisper":
            return whisper_step(WhisperConfig(**self.config), scope, self.workload)
        config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
            Wav2Vec2Config(**self.config["encoder"]), MBartConfig(**self.config["decoder"])
        )
        return e2e_step(config, scope, self.workload)


def measure() -> dict[str, Any]:
    """Both comparisons, of the published sizes."""
    results = compare_cases(published_cases())
    results["doubled_batch"] = compare_with_doubled_batch()
    return results


def bars(results: dict[str, Any]) -> list[Bar]:
    found = [
        Bar(f"{case['name']}: forecast off by", abs(case["ratio"] - 1), MAX_DEVIATION, at_least=False)
        for case in results["cases"]
    ]
    for row in results["doubled_batch"]:
        for what, limit in (("logits", MIN_LOGITS_RATIO), ("activation", MIN_ACTIVATIONS_RATIO)):
            name = f"E2E, {row['precision']}: times less {what} memory than the doubled batch"
            found.append(Bar(name, row[f"{what}_ratio"], limit, at_least=True))
    return found


def published_cases() -> list[MemoryCase]:
    """Whisper small, and wav2vec2-base with mBART-50's decoder on a trimmed vocabulary: 1 to 8 GB each.

    Each is fine-tuned in every way, in float32 without accumulation; and once as on a small GPU.
    """
    from vietst.models.published_sizes import MBART50, TRIMMED_VOCABULARY, WAV2VEC2, WHISPER
    from vietst.models.trainable import ENCODER_PARTS

    whisper = MemoryCase(
        "Whisper small, 2 × 30 s",
        "whisper",
        WHISPER["openai/whisper-small"],
        Workload(num_utterances=2, num_label_tokens=60),
    )
    e2e = MemoryCase(
        f"wav2vec2-base + mBART-50 decoder of {TRIMMED_VOCABULARY:,} pieces, 2 × 15 s",
        "e2e",
        {
            "encoder": WAV2VEC2["facebook/wav2vec2-base"],
            "decoder": MBART50 | {"vocab_size": TRIMMED_VOCABULARY},
        },
        Workload(num_utterances=2, duration_s=15.0, num_label_tokens=60),
        frozen_parts=("feature_encoder",),
    )
    frozen = tuple(sorted(ENCODER_PARTS))
    small = StepSettings(precision="bf16", gradient_checkpointing=True, accumulates_gradients=True)
    changes: dict[str, dict[str, Any]] = {
        "full": {},
        "frozen encoder": {"frozen_parts": frozen},
        "LNA": {"finetune": "lna"},
        "LoRA": {"finetune": "lora"},
        "LoRA, bf16, checkpointing, accumulating": {"finetune": "lora", "settings": small},
    }
    return [
        dataclasses.replace(case, name=f"{case.name}, {name}", **changed)
        for case in (whisper, e2e)
        for name, changed in changes.items()
    ]


def compare_cases(cases: Sequence[MemoryCase]) -> dict[str, Any]:
    """Forecast and measure each case.

    Returns:
        `device`, and `cases`: a list of name, forecast_bytes, measured_bytes, ratio (forecast / measured).

    Raises:
        VietstError: this system does not tell a process's peak.
    """
    import torch

    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    results = []
    for case in cases:
        settings = dataclasses.replace(case.settings, device=device)
        forecast = plan_memory(case.step(), settings).total_bytes
        forecast -= CUDA_CONTEXT_BYTES if device == "cuda" else 0  # the allocator does not see it
        measured = measure_in_new_process(dataclasses.replace(case, settings=settings))
        results.append(
            {
                "name": case.name,
                "forecast_bytes": forecast,
                "measured_bytes": measured,
                "ratio": round(forecast / measured, 3),
            }
        )
    return {"device": device, "cases": results}


def compare_with_doubled_batch() -> list[dict[str, Any]]:
    """Forecasts of wav2vec2-base + mBART-50 with its full vocabulary: 8 clips of 10 s, 40 tokens, both tasks.

    Returns:
        For float32 on a CPU and bfloat16 on a GPU, most bytes of the logits and of all activations, of the
        stock class on the doubled batch and of ours.
    """
    import torch

    from vietst.benchmarks.training_step import (
        StepWorkload,
        doubled_batch,
        e2e_case,
        freeze_feature_encoder,
        made_up_batch,
    )
    from vietst.models.published_sizes import e2e_config

    case = e2e_case("", e2e_config("facebook/wav2vec2-base"), 0.0)
    once = made_up_batch(case, StepWorkload(num_utterances=8, duration_s=10.0, num_label_tokens=40))

    def build_of(model_class: Any, batch: Mapping[str, Any]) -> Build:
        def build() -> Any:
            model = model_class(case.config)
            freeze_feature_encoder(model)
            shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in batch.items()}
            return model.train(), {name: torch.zeros(s, dtype=dtype) for name, (s, dtype) in shapes.items()}

        return build

    ways = {"doubled": build_of(case.stock, doubled_batch(once)), "once": build_of(case.ours, once)}
    settings: tuple[tuple[Precision, Device], ...] = (("fp32", "cpu"), ("bf16", "cuda"))
    results: list[dict[str, Any]] = []
    for precision, device in settings:
        row: dict[str, Any] = {"precision": precision, "device": device}
        for way, build in ways.items():
            trace = trace_training_step(build, precision=precision, device=device)
            others = sum(trace.bytes_of.get(name, 0) for name in (WEIGHTS, GRADIENTS, BATCH))
            row[f"{way}_logits_bytes"] = trace.most_bytes_of[LOGITS_AND_LOSS]
            row[f"{way}_activation_bytes"] = trace.peak_bytes - others
        for what in ("logits", "activation"):
            row[f"{what}_ratio"] = round(row[f"doubled_{what}_bytes"] / row[f"once_{what}_bytes"], 2)
        results.append(row)
    return results


def _doubled_row(row: Mapping[str, Any]) -> str:
    met = row["logits_ratio"] >= MIN_LOGITS_RATIO and row["activation_ratio"] >= MIN_ACTIVATIONS_RATIO
    return (
        f"forecast, wav2vec2-base + mBART-50, 8 × 10 s, both tasks, {row['precision']}: doubled batch, once; "
        f"logits {gigabytes(row['doubled_logits_bytes'])}, {gigabytes(row['once_logits_bytes'])}: "
        f"{row['logits_ratio']:.1f} × less; all activations {gigabytes(row['doubled_activation_bytes'])}, "
        f"{gigabytes(row['once_activation_bytes'])}: {row['activation_ratio']:.2f} × less "
        f"(bars {MIN_LOGITS_RATIO:g} and {MIN_ACTIVATIONS_RATIO:g}: {'met' if met else 'MISSED'})"
    )


def describe(results: dict[str, Any]) -> str:
    """The results in a line each."""
    lines = [f"memory of a training step on {results['device']}: forecast, measured, forecast / measured"]
    width = max(len(case["name"]) for case in results["cases"])
    for case in results["cases"]:
        met = abs(case["ratio"] - 1) <= MAX_DEVIATION
        lines.append(
            f"{case['name']:<{width}}  {gigabytes(case['forecast_bytes'])}  "
            f"{gigabytes(case['measured_bytes'])}  {case['ratio']:.2f}"
            + ("" if met else f"  MISSED: more than {MAX_DEVIATION:.0%} away")
        )
    return "\n".join([*lines, *map(_doubled_row, results["doubled_batch"])])


# --- the measured process ----------------------------------------------------------------------------


def measure_in_new_process(case: MemoryCase) -> int:
    """Peak bytes of a training step, in a process that does nothing else.

    Raises:
        VietstError: this system does not tell a process's peak.
    """
    if case.settings.device == "cpu" and not _STATUS.exists():
        raise VietstError(
            where="measuring memory",
            rule=f"Linux, where {_STATUS} tells the peak of a process, or a GPU",
            found=sys.platform,
            do="run this stage on Linux",
        )
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "vietst.benchmarks.memory", json.dumps(dataclasses.asdict(case))]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    if finished.returncode != 0:
        raise RuntimeError(f"the measured process failed:\n{finished.stderr[-2000:]}")
    return int(finished.stdout.split()[-1])


def _measure(case: MemoryCase) -> int:
    """Peak bytes of a training step in this process, which must be fresh."""
    import torch

    device = torch.device(case.settings.device)
    _take_step(_smallest(case), device)  # loads what PyTorch loads at first use
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _take_step(case, device)
        return torch.cuda.max_memory_allocated() - before
    before = _status_bytes("VmRSS")
    _take_step(case, device)
    return _status_bytes("VmHWM") - before


def _take_step(case: MemoryCase, device: Any) -> None:
    """One step with the optimizer's state in place, as in the middle of training."""
    import torch

    model, batch = case.step()()
    model.to(device)
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    if case.settings.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=not case.settings.accumulates_gradients)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[case.settings.precision]
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        loss = model(**batch).loss
    loss.backward()
    optimizer.step()


def _smallest(case: MemoryCase) -> MemoryCase:
    """The same kind of step at a size that does not count."""
    encoder = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "conv_dim": [32] * 7}
    decoder = {"d_model": 32, "decoder_layers": 1, "decoder_attention_heads": 2, "vocab_size": 100}
    config: Mapping[str, Any] = {"encoder": encoder, "decoder": decoder}
    if case.architecture == "whisper":
        config = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1}
        config |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    return dataclasses.replace(case, config=config, workload=Workload(1, 1.0, 8))


def _status_bytes(key: str) -> int:
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def _case_of(text: str) -> MemoryCase:
    values = json.loads(text)
    values["workload"] = Workload(**values["workload"])
    values["settings"] = StepSettings(**values["settings"])
    return MemoryCase(**values)


if __name__ == "__main__":
    print(_measure(_case_of(sys.argv[1])))
