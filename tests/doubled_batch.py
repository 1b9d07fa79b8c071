"""What encoding once is compared with, for both architectures: the doubled batch, as the guide makes it."""

import torch
from torch import nn

ENCODER_INPUTS = ("input_features", "input_values", "attention_mask")


def doubled(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same training data with every utterance's audio once for each of its targets; without CTC."""
    utterance_index = batch["utterance_index"]
    audio = {name: batch[name].index_select(0, utterance_index) for name in ENCODER_INPUTS if name in batch}
    targets = ("labels", "label_positions", "decoder_input_ids", "task_index")
    return audio | {name: batch[name] for name in targets}


def logits_of(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of every position of every label row, as the stock class makes them: training makes them in parts."""
    inputs = doubled(batch)
    for name in ("labels", "label_positions", "task_index"):
        del inputs[name]
    return model(**inputs).logits


def loss_and_gradients(
    model: nn.Module, batch: dict[str, torch.Tensor]
) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of a training forward, and the gradients of all parameters that train, by name."""
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
