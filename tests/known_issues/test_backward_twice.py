"""Guide: `RuntimeError: backward through graph twice`, avoided by not checkpointing when both tasks are
trained.

One summed loss and one backward pass for both tasks work with gradient checkpointing; so does a frozen
encoder or LoRA, where what enters a checkpointed layer requires no gradient.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers.models.mbart.modeling_mbart import MBartAttention
from transformers.models.whisper.modeling_whisper import WhisperAttention

from tests.tiny_runs import history
from vietst.training.runner import run_training

UNEVALUATED = (
    "model.task=both",
    "training.max_steps=3",
    "training.learning_rate=1e-3",
    "training.eval_strategy=no",
    "training.load_best_model_at_end=false",
    "augmentation.mask_time_prob=0.1",
)


@pytest.fixture
def decoder_attentions(no_recorded_clip: None) -> Iterator[list[nn.Module]]:
    """One entry for each time that an attention of the decoder is computed."""
    computed: list[nn.Module] = []

    def note(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, MBartAttention | WhisperAttention) and module.is_decoder:
            computed.append(module)

    handle = register_module_forward_pre_hook(note)
    yield computed
    handle.remove()


@pytest.mark.parametrize("trained", ["finetune=full", "finetune=lora", "freeze_encoder=true"])
def test_both_tasks_train_with_gradient_checkpointing_as_without(tiny_config, trained, decoder_attentions):
    options = (*UNEVALUATED, f"model.{trained}")
    plain = run_training(tiny_config(*options))
    num_plain = len(decoder_attentions)
    decoder_attentions.clear()
    folder = plain.with_name("checkpointed")
    checkpointed = run_training(
        tiny_config(*options, "training.gradient_checkpointing=true", f"output.dir={folder.as_posix()}")
    )
    assert len(decoder_attentions) == 2 * num_plain > 0, "once more in every backward pass"
    assert history(checkpointed, "loss") == pytest.approx(history(plain, "loss"), rel=1e-6)
    assert history(checkpointed, "grad_norm") == pytest.approx(history(plain, "grad_norm"), rel=1e-5)
    expected, found = (load_file(folder / "model.safetensors") for folder in (plain, checkpointed))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6, msg=name)
