"""Guide: `TypeError: shared tensors` (E2E saving), avoided by `save_safetensors=False`.

Output projection and embeddings are one tensor. Checkpoints and the final model hold it once, as safetensors,
and it is one tensor again after loading; LoRA, whose weights are merged into a copy of the state dict,
included.
"""

import pytest
import torch
from safetensors.torch import load_file
from transformers import SpeechEncoderDecoderModel, WhisperForConditionalGeneration

from vietst.training.runner import run_training

STOCK = {"whisper": WhisperForConditionalGeneration, "e2e": SpeechEncoderDecoderModel}
EMBEDDINGS = {
    "whisper": "model.decoder.embed_tokens.weight",
    "e2e": "decoder.model.decoder.embed_tokens.weight",
}
OUTPUT = {"whisper": "proj_out.weight", "e2e": "decoder.lm_head.weight"}


@pytest.mark.parametrize("finetune", ["full", "lora"])
def test_tied_embeddings_are_saved_once_and_tied_again_after_loading(tiny_config, architecture, finetune):
    run_dir = run_training(
        tiny_config(
            f"model.finetune={finetune}",
            "training.max_steps=1",
            "training.save_steps=1",
            "training.eval_strategy=no",
            "training.load_best_model_at_end=false",
        )
    )
    assert not list(run_dir.rglob("*.bin.index.json"))
    assert not list(run_dir.rglob("pytorch_model*"))
    for folder in (run_dir, run_dir / "checkpoint-1"):
        weights = load_file(folder / "model.safetensors")
        assert OUTPUT[architecture] not in weights
        model, loading = STOCK[architecture].from_pretrained(folder, output_loading_info=True)
        assert not loading["missing_keys"]
        decoder = model if architecture == "whisper" else model.decoder
        embeddings = decoder.get_input_embeddings().weight
        assert decoder.get_output_embeddings().weight is embeddings
        assert torch.equal(embeddings, weights[EMBEDDINGS[architecture]])
