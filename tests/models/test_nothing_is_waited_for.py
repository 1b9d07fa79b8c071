"""A training step asks for no value: on a GPU it would wait for all that was computed so far."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny_models import cached_rows, whisper_batch, whisper_model, whisper_processor
from vietst.models.multitask import LossWeights

VALUES = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.masked_select)


class NoValues(TorchDispatchMode):
    """In it, operations fail whose result's size or use needs a value of a tensor."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert function.overloadpacket not in VALUES, function
        if function.overloadpacket == torch.ops.aten.index:
            assert not any(index is not None and index.dtype == torch.bool for index in args[1])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_step_of_whisper_on_both_tasks(attention):
    processor = whisper_processor()
    model = whisper_model(
        processor, apply_spec_augment=True, mask_time_prob=0.3, mask_feature_prob=0.1, dropout=0.1
    ).train()
    model.set_attn_implementation(attention)
    model.loss_weights = LossWeights((1.0, 0.5), label_smoothing=0.1)
    batch = whisper_batch(processor, cached_rows(3))
    num_items = (batch["labels"] != -100).sum()
    with NoValues():
        model(**batch, num_items_in_batch=num_items).loss.backward()
    assert model.proj_out.weight.grad is not None


def test_asking_for_a_value_is_found():
    tensor = torch.tensor([1.0, 2.0])
    for ask in (lambda: bool(tensor.all()), lambda: tensor[tensor > 1], lambda: float(tensor[0])):
        with pytest.raises(AssertionError), NoValues():
            ask()
