"""The decoder's loss without the logits of all positions is the one with them, in value and gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vietst.models import label_loss
from vietst.models.label_loss import give_label_loss

NUM_LABELS, WIDTH, VOCAB_SIZE = 50, 16, 301


@pytest.fixture(autouse=True)
def few_labels_at_a_time(monkeypatch):
    monkeypatch.setattr(label_loss, "MAX_CHUNK_LOGITS", 7 * VOCAB_SIZE)


def made_up(dtype=torch.float32):
    """Projection, hidden states, labels, and their weights."""
    torch.manual_seed(0)
    projection = nn.Linear(WIDTH, VOCAB_SIZE, bias=False)
    give_label_loss(projection)
    hidden_states = (2 * torch.randn(NUM_LABELS, WIDTH)).to(dtype).requires_grad_()
    return projection, hidden_states, torch.randint(VOCAB_SIZE, (NUM_LABELS,)), torch.rand(NUM_LABELS)


def all_at_once(projection, hidden_states, labels, weights, smoothing):
    """Weighted sum and losses, from the logits of all labels."""
    logits = functional.linear(hidden_states, projection.weight).float()
    losses = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    return (losses * weights).sum(), losses


def gradients(projection, hidden_states, total, scale):
    projection.zero_grad()
    hidden_states.grad = None
    (scale * total).backward()
    return {"hidden_states": hidden_states.grad, "weight": projection.weight.grad}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1.0, 3e-3, 2.0**16])
def test_losses_and_gradients_are_those_of_all_logits_at_once(smoothing, scale):
    projection, hidden_states, labels, weights = made_up()
    total, losses = projection(hidden_states, labels, weights, smoothing)
    expected_total, expected_losses = all_at_once(projection, hidden_states, labels, weights, smoothing)
    torch.testing.assert_close(total, expected_total, rtol=1e-6, atol=0)
    torch.testing.assert_close(losses, expected_losses, rtol=1e-6, atol=1e-6)
    assert not losses.requires_grad
    found = gradients(projection, hidden_states, total, scale)
    expected = gradients(projection, hidden_states, expected_total, scale)
    for name in expected:
        torch.testing.assert_close(found[name] / scale, expected[name] / scale, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_rounds_no_more_than_with_all_logits_at_once(dtype):
    projection, hidden_states, labels, weights = made_up()
    exact = all_at_once(projection, hidden_states, labels, weights, 0.1)[0]
    exact_gradients = gradients(projection, hidden_states, exact, 1.0)
    errors = []
    for loss in (projection, lambda *args: all_at_once(projection, *args)):
        with torch.autocast("cpu", dtype=dtype):
            total, _ = loss(hidden_states, labels, weights, 0.1)
        assert total.dtype == torch.float32
        found = gradients(projection, hidden_states, total, 1.0)
        assert all(gradient.dtype == torch.float32 for gradient in found.values())
        errors.append({name: (found[name] - exact_gradients[name]).norm() for name in found})
    for name, error in errors[0].items():
        assert 0 < error < 1.2 * errors[1][name], name


class RowsOfProducts(TorchDispatchMode):
    """How far the rows of all matrices that are multiplied, and of their products, lie apart, in bytes."""

    def __init__(self):
        super().__init__()
        self.bytes_apart = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if operation.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm_):
            matrices = [leaf for leaf in (*args, result) if leaf.dtype.itemsize == 2]
            self.bytes_apart += [2 * max(matrix.stride()) for matrix in matrices]
        return result


def test_in_half_precision_no_product_has_rows_that_a_gpu_reads_slowly():
    projection, hidden_states, labels, weights = made_up()
    with RowsOfProducts() as rows, torch.autocast("cpu", dtype=torch.bfloat16):
        projection(hidden_states, labels, weights, 0.1)[0].backward()
    assert 2 * VOCAB_SIZE + 6 in rows.bytes_apart
    num_chunks = -(-NUM_LABELS // 7)
    assert len(rows.bytes_apart) == 3 * 3 * num_chunks
    assert not [distance for distance in rows.bytes_apart if distance % 16]


@pytest.mark.parametrize("frozen", ["weight", "hidden_states"])
def test_what_needs_no_gradient_gets_none(frozen):
    projection, hidden_states, labels, weights = made_up()
    expected = gradients(
        projection, hidden_states, all_at_once(projection, hidden_states, labels, weights, 0.0)[0], 1.0
    )
    (projection.weight if frozen == "weight" else hidden_states).requires_grad_(False)
    found = gradients(projection, hidden_states, projection(hidden_states, labels, weights, 0.0)[0], 1.0)
    assert found.pop(frozen) is None
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6)


class LargestTensors(TorchDispatchMode):
    """Numbers of values of all tensors that operations make, besides a given one."""

    def __init__(self, known):
        super().__init__()
        self.known, self.sizes = known.untyped_storage().data_ptr(), []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.sizes += [leaf.numel() for leaf in made if leaf.untyped_storage().data_ptr() != self.known]
        return result


def test_the_logits_of_all_labels_never_exist_in_forward_and_backward_pass():
    projection, hidden_states, labels, weights = made_up()
    with LargestTensors(projection.weight) as tensors:
        projection(hidden_states, labels, weights, 0.1)[0].backward()
    assert max(tensors.sizes) <= max(8 * VOCAB_SIZE, WIDTH * VOCAB_SIZE) < NUM_LABELS * VOCAB_SIZE / 3


def test_evaluation_makes_no_gradients():
    projection, hidden_states, labels, weights = made_up()
    with LargestTensors(projection.weight) as tensors, torch.no_grad():
        _, losses = projection(hidden_states, labels, weights, 0.0)
    assert max(tensors.sizes) <= 8 * VOCAB_SIZE < projection.weight.numel()
    expected = all_at_once(projection, hidden_states, labels, weights, 0.0)[1]
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6)


def test_a_matrix_that_is_the_embedding_too_gets_both_gradients():
    projection, _, labels, weights = made_up()
    embedding = nn.Embedding(VOCAB_SIZE, WIDTH)
    embedding.weight = projection.weight
    ids = torch.randint(VOCAB_SIZE, (NUM_LABELS,))
    found = []
    for loss in (projection, lambda *args: all_at_once(projection, *args)):
        projection.zero_grad()
        loss(embedding(ids), labels, weights, 0.0)[0].backward()
        found.append(projection.weight.grad)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_no_labels_are_no_loss_and_logits_are_those_of_a_linear_layer():
    projection, hidden_states, labels, weights = made_up()
    total, losses = projection(hidden_states[:0], labels[:0], weights[:0], 0.0)
    total.backward()
    assert total == 0
    assert losses.shape == (0,)
    assert projection.weight.grad.abs().sum() == 0
    logits = functional.linear(hidden_states, projection.weight)
    assert torch.equal(projection(hidden_states), logits)


def test_a_second_backward_pass_is_refused():
    projection, hidden_states, labels, weights = made_up()
    total, _ = projection(hidden_states, labels, weights, 0.0)
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated before"):
        total.backward()
