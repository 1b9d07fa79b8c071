"""Cross-entropy of the labels without the logits of all positions.

Logits are the largest tensors of a training step: mBART-50 has 250,054 of them for every position. They are
needed at the positions that have a label only, and there not all at the same time: the loss and both of its
gradients (of the hidden states, of the output matrix) are computed for a few positions after the other, in
the forward pass, while their logits are there. The idea is that of Liger kernel's fused linear cross-entropy
(Hsu et al. 2024, arXiv:2410.10989); Wijmans et al. 2024 (arXiv:2411.09009) cut along the vocabulary too.
"""

import math
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

MAX_CHUNK_LOGITS: Final = 20_000_000
"""Logits that are there at a time: 80 MB in float32. Smaller chunks make the products slower."""

MAX_CHUNKS: Final = 16
"""So that the gradient of the output matrix, which every chunk adds to, is not written more often."""


class LabelLossLinear(nn.Linear):
    """An output projection without bias that can return the loss of labels instead of logits.

    As a module of its own, whose weights ZeRO-3 brings together before its forward pass and FSDP before that
    of the model, whichever of the two it computes.
    """

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        labels: torch.Tensor | None = None,
        label_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Logits [..., vocabulary] of hidden states [..., width]; with `labels`, their loss.

        Args:
            hidden_states: with labels [num_labels, width].
            labels: int64 [num_labels].
            label_weights: float [num_labels], what each label's loss counts in the sum; needs no gradient.
            label_smoothing: as `torch.nn.functional.cross_entropy`.

        Returns:
            With labels: the weighted sum of their losses in nats, a float32 scalar, and the losses one by
            one, float32 [num_labels], through which no gradient flows.
        """
        if labels is None or label_weights is None:
            return super().forward(hidden_states)
        weight = self.weight
        if not torch.is_grad_enabled():
            hidden_states, weight = hidden_states.detach(), weight.detach()
        return _LabelLoss.apply(hidden_states, weight, labels, label_weights, label_smoothing)


def give_label_loss(projection: nn.Linear) -> None:
    """Turn an output projection into a `LabelLossLinear`; parameters, ties and names stay as they are."""
    assert len(list(projection.parameters())) == 1, "no bias, in Whisper and in mBART"
    projection.__class__ = LabelLossLinear


class _LabelLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_states: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        label_weights: torch.Tensor,
        label_smoothing: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        device_type, (num_labels, vocab_size) = hidden_states.device.type, (len(labels), len(weight))
        is_autocast = torch.is_autocast_enabled(device_type)
        dtype = torch.get_autocast_dtype(device_type) if is_autocast else weight.dtype
        grad_hidden = torch.zeros_like(hidden_states) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        losses = label_weights.new_empty(num_labels, dtype=torch.float32)
        with torch.autocast(device_type, enabled=False):
            matrix = weight.to(dtype)
            for chunk in _chunks(num_labels, vocab_size):
                hidden, chunk_labels = hidden_states[chunk].to(dtype), labels[chunk, None]
                log_probabilities = _logits(hidden, matrix).float().log_softmax(-1)
                chunk_losses = -log_probabilities.gather(1, chunk_labels).squeeze(1)
                if label_smoothing > 0:
                    chunk_losses *= 1 - label_smoothing
                    chunk_losses -= label_smoothing * log_probabilities.mean(1)
                losses[chunk] = chunk_losses
                if grad_hidden is None and grad_weight is None:
                    continue
                # In place: p − (1 − ε) at the label, − ε / vocabulary everywhere
                slopes = log_probabilities.exp_()
                if label_smoothing > 0:
                    slopes -= label_smoothing / vocab_size
                slopes.scatter_add_(1, chunk_labels, slopes.new_full(chunk_labels.shape, label_smoothing - 1))
                slopes = _in_aligned_rows(slopes.to(dtype))
                chunk_weights = label_weights[chunk, None]
                if grad_hidden is not None:
                    grad_hidden[chunk] = slopes.mm(matrix) * chunk_weights
                if grad_weight is not None:
                    _add_product(grad_weight, slopes.t(), (hidden * chunk_weights).to(dtype))
                del log_probabilities, slopes  # before the next chunk's are made
        ctx.gradients = grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype)
        ctx.mark_non_differentiable(losses)
        return (losses * label_weights).sum(), losses

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the gradients of this loss are gone: it was differentiated before")
        # Let go of here, for autograd to go on with these tensors instead of copies.
        (grad_hidden, grad_weight), ctx.gradients = ctx.gradients, None
        for gradient in (grad_hidden, grad_weight):
            if gradient is not None:
                gradient *= gradients[0]
        return grad_hidden, grad_weight, None, None, None


def _chunks(num_labels: int, vocab_size: int) -> list[slice]:
    """Of about equal length."""
    length = max(1, MAX_CHUNK_LOGITS // vocab_size, math.ceil(num_labels / MAX_CHUNKS))
    length = math.ceil(num_labels / max(1, math.ceil(num_labels / length)))
    return [slice(start, start + length) for start in range(0, num_labels, max(1, length))]


def _logits(hidden: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """[num_labels, vocabulary], in rows as `_in_aligned_rows` has them."""
    vocab_size = len(matrix)
    rows = hidden.new_empty(len(hidden), vocab_size + _padding_of_row(vocab_size, hidden.dtype))
    return torch.mm(hidden, matrix.t(), out=rows[:, :vocab_size])


def _in_aligned_rows(values: torch.Tensor) -> torch.Tensor:
    """The same matrix, in half precision with rows that begin at multiples of 16 bytes.

    Fast products on GPUs want that, and vocabularies have no such widths: with Whisper's 51,865 pieces an
    H100 took a kernel for rows that begin anywhere. What this gains there was not measured.
    """
    padding = _padding_of_row(values.shape[1], values.dtype)
    return functional.pad(values, (0, padding))[:, : values.shape[1]] if padding else values


def _padding_of_row(width: int, dtype: torch.dtype) -> int:
    """Elements that fill up the last 16 bytes; none in float32, which gains nothing by them."""
    return -width % 8 if dtype.itemsize == 2 else 0


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """total += left · right, without a copy of the total where the types are the same."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left.mm(right)
