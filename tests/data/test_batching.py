"""Batches on their way from a data worker to the training process."""

import torch

from vietst.data.batching import Batch

NUM_VALUES_THAT_ARE_LARGE = 100_000


def collated(rows: list[int]) -> Batch:
    return Batch(
        row_index=torch.tensor(rows),
        input_features=torch.full((len(rows), NUM_VALUES_THAT_ARE_LARGE), float(rows[0])),
        nothing=torch.empty(0, 3),
    )


def test_a_batch_from_a_worker_is_what_was_collated_and_only_its_large_tensors_are_shared() -> None:
    loader = torch.utils.data.DataLoader([0, 1, 2, 3], batch_size=2, num_workers=1, collate_fn=collated)
    received = list(loader)
    for batch, expected in zip(received, [collated([0, 1]), collated([2, 3])], strict=True):
        assert isinstance(batch, Batch)
        assert list(batch) == list(expected), "in their order"
        for name, tensor in expected.items():
            torch.testing.assert_close(batch[name], tensor, rtol=0, atol=0)
        assert batch["input_features"].is_shared()
        assert not batch["row_index"].is_shared()
        batch["row_index"] += 1  # may be written to
