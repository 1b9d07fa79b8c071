"""Batches: as much speech as fits, the long clips together."""

from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from vietst.data.features import LOG_MEL_80, WAVEFORM_16K
from vietst.inference.batches import batch_budget_s, batches_by_length
from vietst.models.published_sizes import e2e_config, whisper_config

GIB = 2**30


def decoder(config: Any, num_beams: int = 1, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    kind = WAVEFORM_16K if hasattr(config, "decoder") else LOG_MEL_80
    model = SimpleNamespace(device=torch.device(device), config=config, dtype=dtype)
    return SimpleNamespace(model=model, input_kind=kind, record=SimpleNamespace(num_beams=num_beams))


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A machine with 16 GiB of free memory there; on the GPU, PyTorch keeps 10 of them."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=16 * GIB))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (6 * GIB, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 15 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 5 * GIB)
    return request.param


def test_the_budget_follows_from_memory_model_tasks_and_beams(device: str) -> None:
    large = whisper_config("openai/whisper-large-v3")
    greedy, beams = (batch_budget_s(decoder(large, n, device), 2) for n in (1, 5))
    # keys and values: 2 × 32 layers × 1280 × 1500 positions × 4 bytes; as much room for each task and beam
    bytes_of_window = 2 * 32 * 1280 * 1500 * 4 * 2 * 5
    assert 30 < beams <= 16 * GIB / bytes_of_window * 30
    assert beams < greedy
    assert batch_budget_s(decoder(large, 5, device), 1) > beams
    assert batch_budget_s(decoder(large, 5, device, torch.float16), 2) > beams
    tiny = batch_budget_s(decoder(whisper_config("openai/whisper-tiny"), 1, device), 2)
    assert tiny == (240 if device == "cpu" else 960)
    assert batch_budget_s(decoder(e2e_config("facebook/wav2vec2-base"), 1, device), 2) <= tiny


def test_a_clip_is_decoded_however_little_memory_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=GIB))
    assert batch_budget_s(decoder(whisper_config("openai/whisper-large-v3"), 5), 2) == 30


def test_batches_hold_clips_of_like_length_and_no_more_than_the_budget() -> None:
    costs_s = [2.0, 9.0, 3.0, 8.0, 1.0, 30.0, 2.5]
    batches = list(batches_by_length(costs_s, 18.0))
    assert batches == [[5], [1, 3], [2, 6, 0, 4]]
    assert list(batches_by_length([], 18.0)) == []


def test_clips_of_other_windows_stand_in_other_batches() -> None:
    costs_s = [4.0, 30.0, 4.0, 6.0, 6.0, 4.0]
    batches = list(batches_by_length(costs_s, 60.0, of_equal_costs=True))
    assert batches == [[1], [3, 4], [0, 2, 5]]
    assert list(batches_by_length(costs_s, 8.0, of_equal_costs=True)) == [[1], [3], [4], [0, 2], [5]]
