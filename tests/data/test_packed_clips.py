"""Clips that travel packed are, once padded, what padding on the host gives."""

from typing import Any

import numpy as np
import pytest
import torch

from vietst.data.batching import Batch
from vietst.data.features import pad_log_mel
from vietst.data.packed_clips import PackedClips, padded_batch


def clips_of(*lengths: int, width: int | None = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, width) if width else n).astype("<f2") for n in lengths]


@pytest.mark.parametrize("lengths", [(7, 3, 12), (4,), (12, 12), (15, 2)], ids=str)
def test_log_mel_features_are_padded_to_the_window_as_on_the_host(lengths):
    clips, pad_values = clips_of(*lengths), [0.1 * index - 0.7 for index in range(len(lengths))]
    packed = PackedClips.of(
        clips, pad_values=pad_values, padded_length=12, time_is_last=True, mask_name="attention_mask"
    )
    batch = padded_batch({"input_features": packed, "row_index": torch.arange(3)})
    assert list(batch) == ["input_features", "attention_mask", "row_index"]
    assert torch.equal(batch["input_features"], torch.from_numpy(pad_log_mel(clips, pad_values, 12)))
    assert batch["input_features"].is_contiguous()
    assert batch["attention_mask"].dtype == torch.int64
    expected = [[1] * min(n, 12) + [0] * (12 - min(n, 12)) for n in lengths]
    assert batch["attention_mask"].tolist() == expected
    assert packed.numel() == batch["input_features"].numel()
    # behind the window nothing is sent
    assert packed.values.shape == (sum(min(n, 12) for n in lengths), 5)


@pytest.mark.parametrize("width", [None, 4], ids=["waveform", "states"])
@pytest.mark.parametrize("lengths", [(7, 3, 12), (4,)], ids=str)
def test_waveforms_and_states_are_padded_with_zeros_to_the_longest(lengths, width):
    clips = clips_of(*lengths, width=width)
    dtype = torch.float16 if width else torch.float32
    padded = PackedClips.of(clips, dtype=dtype).padded()
    assert padded.dtype == dtype
    assert len(padded) == len(clips)
    assert padded.shape[1] == max(lengths)
    for row, clip in zip(padded, clips, strict=True):
        np.testing.assert_array_equal(row[: len(clip)].numpy(), clip.astype(np.float32))
        assert not row[len(clip) :].any()


def collated(rows: list[int]) -> Batch:
    return Batch(input_values=PackedClips.of(clips_of(80_000, 3, width=None)), row_index=torch.tensor(rows))


def test_a_worker_hands_packed_clips_over_in_shared_memory():
    loader = torch.utils.data.DataLoader([0, 1], batch_size=2, num_workers=1, collate_fn=collated)
    (received,) = loader
    packed, expected = received["input_values"], collated([0, 1])["input_values"]
    assert packed.values.is_shared()
    assert torch.equal(packed.padded(), expected.padded())
    assert packed.lengths == (80_000, 3)


def test_data_loaders_pin_and_move_them_as_they_do_tensors(monkeypatch):
    """By what torch and accelerate call; no GPU is needed to see that nothing but the values moves."""
    from accelerate.utils import send_to_device
    from torch.utils.data._utils.pin_memory import pin_memory

    moved = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: (moved.append("pinned"), tensor)[1])
    pinned = pin_memory(Batch(input_values=PackedClips.of(clips_of(4, 2))))
    assert isinstance(pinned, Batch)
    assert moved == ["pinned"]
    on_device = send_to_device(pinned, torch.device("meta"), non_blocking=True)["input_values"]
    assert on_device.values.is_meta
    assert on_device.padded().is_meta
    assert on_device.mask().is_meta
    assert on_device.lengths == (4, 2)


def test_a_batch_is_pinned_whole_and_copied_without_waiting(monkeypatch):
    """As a GPU's data loader does both; memory cannot be pinned without one."""
    from accelerate.utils import send_to_device
    from torch.utils.data._utils.pin_memory import pin_memory

    def noted(noted_as: list[int], method: Any) -> Any:
        def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            noted_as.append(tensor.data_ptr() if not kwargs else kwargs["non_blocking"])
            return method(tensor, *args, **kwargs)

        return call

    packed = PackedClips.of(clips_of(3, 2), mask_name="attention_mask")
    batch = Batch({"clips": packed, "labels": torch.ones(2, 3), "large": torch.ones(200, 200)})
    pinned: list[int] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", noted(pinned, torch.Tensor.clone))
    held = pin_memory(batch)
    assert pinned == [tensor.data_ptr() for tensor in (packed.values, batch["labels"], batch["large"])]
    copied: list[bool] = []
    monkeypatch.setattr(torch.Tensor, "to", noted(copied, torch.Tensor.to))
    moved = send_to_device(held, torch.device("cpu"), non_blocking=True)
    assert copied == [True] * 3
    assert torch.equal(moved["clips"].padded(), packed.padded())
