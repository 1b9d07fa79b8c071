"""Does the model say about its clip what it said when it was trained?"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import jiwer
import torch

from vietst.doctor.findings import Finding, Status
from vietst.environment import has_gpu, package_versions
from vietst.inference.self_check import CLIP_NAME, FOLDER, Expected, read_expected, said_about
from vietst.inference.translator import SpeechTranslator

SAME_DEVICE_TOLERANCE: Final = 0.01
"""Of the mean log probability of a token, where device and precision are those of the record: other machines
round otherwise. It is about the relative difference of the confidence."""

OTHER_DEVICE_TOLERANCE: Final = 0.1
"""On a GPU in half precision."""


def check_clip(folder: Path) -> Iterator[Finding]:
    """On the CPU in float32, as it was recorded, and on a GPU where there is one."""
    expected = read_expected(folder)
    if expected is None:
        yield Finding(
            Status.WARNING,
            "recorded clip",
            f"no {FOLDER}/ that tells what the model said at training time",
            "train with this version of vietst, which records it; push the whole run folder",
        )
        return
    said = _said(folder, "cpu", torch.float32)
    for task, then in expected.tasks.items():
        yield as_recorded(task, then, said[task], expected)
    if has_gpu():
        said = _said(folder, "cuda", None)
        for task, then in expected.tasks.items():
            yield on_gpu(task, then, said[task])


def _said(folder: Path, device: str, dtype: torch.dtype | None) -> dict[str, dict[str, Any]]:
    translator = SpeechTranslator.from_pretrained(folder, device=device, dtype=dtype, context="full")
    return said_about(translator(folder / FOLDER / CLIP_NAME))


def as_recorded(task: str, then: Mapping[str, Any], now: Mapping[str, Any], expected: Expected) -> Finding:
    """Same device and precision: the texts are equal, or something is wrong."""
    subject = f"clip, {task}"
    if then["text"] != now["text"]:
        found = f"said {then['text']!r} at training time, and now {now['text']!r} ({_error_rate(then, now)})"
    elif abs(mean_log_probability(then) - mean_log_probability(now)) > SAME_DEVICE_TOLERANCE:
        found = (
            f"same text, but with confidence {confidence(then):.3f} at training time, and now "
            f"{confidence(now):.3f}"
        )
    else:
        return Finding(Status.OK, subject, f"{now['text']!r}, as at training time ({confidence(now):.3f})")
    return Finding(
        Status.MEND,
        subject,
        found,
        f"push the run folder again: its files are others{other_versions(expected)}",
    )


def on_gpu(task: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Finding:
    """Another device rounds otherwise, and may choose another word where two are almost equally probable."""
    subject = f"clip, {task}, GPU"
    if then["text"] != now["text"]:
        found = f"{now['text']!r}, and on the CPU {then['text']!r} ({_error_rate(then, now)})"
        return Finding(Status.WARNING, subject, found, "score the model on the GPU, too: run_evaluation.py")
    if abs(mean_log_probability(then) - mean_log_probability(now)) > OTHER_DEVICE_TOLERANCE:
        found = f"same text; confidence {confidence(then):.3f} on the CPU, {confidence(now):.3f} here"
        return Finding(Status.WARNING, subject, found, "score the model on the GPU, too: run_evaluation.py")
    return Finding(Status.OK, subject, f"{now['text']!r}, as on the CPU ({confidence(now):.3f})")


def mean_log_probability(said: Mapping[str, Any]) -> float:
    """Of a token; minus infinity where nothing was said."""
    return said["log_probability"] / said["num_tokens"] if said["num_tokens"] else -math.inf


def confidence(said: Mapping[str, Any]) -> float:
    """Geometric mean of the token probabilities; 0 where nothing was said."""
    return math.exp(mean_log_probability(said))


def _error_rate(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if not then["text"]:
        return "there was no text"
    return f"character error rate {100 * jiwer.cer(reference=then['text'], hypothesis=now['text']):.0f} %"


def other_versions(expected: Expected) -> str:
    """What else may be the reason, as the end of a sentence."""
    installed = package_versions()
    others = [
        f"{name} {expected.versions[name]} then, {installed.get(name)} now"
        for name in ("torch", "transformers", "tokenizers", "vietst")
        if expected.versions.get(name) not in (None, installed.get(name))
    ]
    return f", or the versions are ({'; '.join(others)})" if others else ""
