"""Encode once, decode every target: what both architectures share.

An utterance may have one or two targets (transcript, translation). The encoder runs once per utterance; all
its targets attend to the same states (`vietst.models.shared_states`); one decoder call, one loss that makes
logits only where there is a label (`vietst.models.label_loss`), one backward. Loss and gradients are those of
the doubled batch (with dropout, layerdrop and SpecAugment off), without its second encoder pass.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils import ModelOutput

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


@dataclasses.dataclass
class EncoderStates(ModelOutput):
    """What a decoder attends to, one row for each utterance: all that generation needs from an encoder pass.

    `last_hidden_state` is [num_utterances, num_positions, width]; `position_mask` bool [num_utterances,
    num_positions] is False where a position stands behind the end of its clip. None: the decoder attends to
    all positions, as Whisper's does.
    """

    last_hidden_state: torch.Tensor
    position_mask: torch.Tensor | None = None


@dataclasses.dataclass
class MultitaskOutput(Seq2SeqLMOutput):
    """As `Seq2SeqLMOutput`, with the summed loss of each label row: `target_losses` [num_targets], no logits.

    `encoder_states` is per utterance, not per target, so that generation can go on from it.
    """

    target_losses: torch.Tensor | None = None
    encoder_states: EncoderStates | None = None


def decoder_loss(
    projection: nn.Module,
    hidden_states: torch.Tensor,
    labels: torch.Tensor,
    label_positions: torch.Tensor,
    task_index: torch.Tensor,
    weights: LossWeights,
    *,
    label_smoothing: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The decoder's loss of all targets, in nats.

    Args:
        projection: the decoder's `LabelLossLinear`.
        hidden_states: [num_targets, length, width], what the projection makes logits of.
        labels: [num_targets, length], `IGNORE_INDEX` where nothing is to be learned.
        label_positions: [num_labels], where the others stand in the flattened labels.
        task_index: [num_targets], position of each row's task in `TASKS`.

    Returns:
        The sum of all token losses, weighted by task; and, without gradients, the sum of each row
        [num_targets], not weighted. Both float32.
    """
    # Filled on the device: copying a list there waits for it.
    weight_of_row = torch.zeros(task_index.shape, device=labels.device)
    for task, weight in enumerate(weights.per_task):
        weight_of_row.masked_fill_(task_index == task, weight)
    total, losses = projection(
        hidden_states.flatten(0, 1).index_select(0, label_positions),
        labels.flatten().index_select(0, label_positions),
        weight_of_row.index_select(0, label_positions // labels.shape[1]),
        label_smoothing,
    )
    at_position = losses.new_zeros(labels.numel()).index_copy(0, label_positions, losses)
    return total, at_position.view(labels.shape).sum(dim=1)


def ctc_negative_log_likelihood(
    head: nn.Module, encoder_states: torch.Tensor, num_positions: torch.Tensor, ctc_labels: torch.Tensor
) -> torch.Tensor:
    """Sum of the CTC losses of all utterances (Graves et al. 2006), in nats; a scalar.

    Args:
        head: linear map from the encoder's width to the units, blank first.
        encoder_states: [num_utterances, num_positions, width].
        num_positions: [num_utterances], how many positions of each utterance are speech, not padding.
        ctc_labels: [num_utterances, length], ids of units from 1 on, `IGNORE_INDEX` at padding.

    An utterance whose units do not fit its positions (one each, and a blank between two equal ones) counts 0
    (PyTorch's `zero_infinity`).
    """
    log_probabilities = head(encoder_states).float().log_softmax(-1)
    if log_probabilities.device.type == "mps":
        # PyTorch has no CTC loss for Apple's GPUs.
        log_probabilities, ctc_labels, num_positions = (
            tensor.cpu() for tensor in (log_probabilities, ctc_labels, num_positions)
        )
    summed = functional.ctc_loss(
        log_probabilities.transpose(0, 1),  # [num_positions, num_utterances, units]
        ctc_labels.clamp(min=0),
        input_lengths=num_positions,
        target_lengths=(ctc_labels != IGNORE_INDEX).sum(dim=1),
        blank=0,
        reduction="sum",
        zero_infinity=True,
    )
    return summed.to(encoder_states.device)


def combine_losses(
    decoder_loss: torch.Tensor,
    ctc_loss: torch.Tensor | None,
    weights: LossWeights,
    num_label_tokens: torch.Tensor | int,
) -> torch.Tensor:
    """The training loss: weighted sums over the whole optimizer step, divided once by its label tokens.

    Dividing by the label tokens of *all* micro batches of *all* processes makes 8 × 1 equal to 1 × 8:
    neither accumulation nor the number of processes changes loss or gradients. The CTC sum is divided by
    the same number, so that it obeys the same law; its units per label token only scale its weight.

    Args:
        decoder_loss: scalar sum over the label tokens, weighted by task.
        ctc_loss: scalar sum over the utterances, or None.
        num_label_tokens: label tokens (not `IGNORE_INDEX`) of the whole optimizer step.

    Returns:
        A scalar.
    """
    total = decoder_loss
    if ctc_loss is not None:
        total = total + weights.ctc * ctc_loss
    return total / num_label_tokens


def write_stock_architecture(save_directory: Any, stock_class: type) -> None:
    """Let a saved folder load as transformers' own class everywhere; it writes the name of ours.

    Nor does it say where on this machine the parts of an E2E model lay.
    """
    path = Path(save_directory) / "config.json"
    if path.is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
        config["architectures"] = [stock_class.__name__]
        for part in ("encoder", "decoder"):
            config.get(part, {}).pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8", newline="\n")
