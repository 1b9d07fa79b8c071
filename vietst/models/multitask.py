"""Encode once, decode every target: what both architectures share.

An utterance may have one or two targets (transcript, translation). The encoder runs once per utterance;
its states are repeated for the label rows; one decoder call, one loss, one backward. Loss and gradients
are those of the doubled batch (with dropout, layerdrop and SpecAugment off), without its second encoder pass.
"""

import dataclasses

import torch
from torch import nn
from torch.nn import functional

from vietst.constants import IGNORE_INDEX, TASKS


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """What the training loss is made of.

    `per_task` weighs the label rows in the order of `vietst.constants.TASKS`; `ctc` weighs the auxiliary
    CTC loss (0: none); `label_smoothing` is the share of probability spread over the whole vocabulary.
    """

    per_task: tuple[float, ...] = (1.0,) * len(TASKS)
    ctc: float = 0.0
    label_smoothing: float = 0.0


def repeat_for_targets(encoder_states: torch.Tensor, utterance_index: torch.Tensor | None) -> torch.Tensor:
    """Give every label row the states of its utterance.

    Args:
        encoder_states: [num_utterances, num_positions, width].
        utterance_index: [num_targets], the utterance that each label row belongs to; None: one row each.

    Returns:
        [num_targets, num_positions, width].
    """
    if utterance_index is None:
        return encoder_states
    return encoder_states.index_select(0, utterance_index)


def target_negative_log_likelihood(
    logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Sum of the token losses of each label row, in nats.

    Args:
        logits: [num_targets, length, vocabulary], any float type; the loss is computed in float32.
        labels: [num_targets, length], `IGNORE_INDEX` where nothing is to be learned.
        label_smoothing: as `torch.nn.functional.cross_entropy`.

    Returns:
        [num_targets] float32.
    """
    per_token = functional.cross_entropy(
        logits.float().transpose(1, 2),
        labels,
        ignore_index=IGNORE_INDEX,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return per_token.sum(dim=1)


def ctc_negative_log_likelihood(
    head: nn.Module, encoder_states: torch.Tensor, num_positions: torch.Tensor, ctc_labels: torch.Tensor
) -> torch.Tensor:
    """Sum of the CTC losses of all utterances (Graves et al. 2006), in nats; a scalar.

    Args:
        head: linear map from the encoder's width to the characters, blank first.
        encoder_states: [num_utterances, num_positions, width].
        num_positions: [num_utterances], how many positions of each utterance are speech, not padding.
        ctc_labels: [num_utterances, length], character ids from 1 on, `IGNORE_INDEX` at padding.

    An utterance whose characters do not fit its positions counts 0 (PyTorch's `zero_infinity`).
    """
    log_probabilities = head(encoder_states).float().log_softmax(-1)
    return functional.ctc_loss(
        log_probabilities.transpose(0, 1),  # [num_positions, num_utterances, characters]
        ctc_labels.clamp(min=0),
        input_lengths=num_positions,
        target_lengths=(ctc_labels != IGNORE_INDEX).sum(dim=1),
        blank=0,
        reduction="sum",
        zero_infinity=True,
    )


def combine_losses(
    target_losses: torch.Tensor,
    task_index: torch.Tensor,
    ctc_loss: torch.Tensor | None,
    weights: LossWeights,
    num_label_tokens: torch.Tensor | int,
) -> torch.Tensor:
    """The training loss: weighted sums over the whole optimizer step, divided once by its label tokens.

    Dividing by the label tokens of *all* micro batches of *all* processes makes 8 × 1 equal to 1 × 8:
    neither accumulation nor the number of processes changes loss or gradients. The CTC sum is divided by
    the same number, so that it obeys the same law; its characters per label token only scale its weight.

    Args:
        target_losses: [num_targets], sums over the tokens of each label row.
        task_index: [num_targets], position of each row's task in `TASKS`.
        ctc_loss: scalar sum over the utterances, or None.
        num_label_tokens: label tokens (not `IGNORE_INDEX`) of the whole optimizer step.

    Returns:
        A scalar.
    """
    if any(weight != 1.0 for weight in weights.per_task):
        target_losses = target_losses * target_losses.new_tensor(weights.per_task)[task_index]
    total = target_losses.sum()
    if ctc_loss is not None:
        total = total + weights.ctc * ctc_loss
    return total / num_label_tokens
