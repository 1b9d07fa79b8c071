"""Guide: CUDA out of memory; "reduce `batch_size` to 1, set `freeze_encoder: true`".

Advice, which the guide's program does not follow: its YAML has `freeze_encoder` under `model`, its code reads
it from `training`, and nothing is frozen, without a word. Frozen, an encoder must not cost memory for its
training: no gradients, no optimizer state, and no activations kept for the backward pass. What a smaller
batch changes (nothing but memory): `test_num_items_in_batch.py`. What is said where memory does run out:
`tests/training/test_out_of_memory.py`.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_runs import tiny_e2e_run_overrides, tiny_run_overrides
from vietst.config import load_config
from vietst.training.runner import run_training
from vietst.training.trainer import SpeechTrainer

OVERRIDES = {"whisper": tiny_run_overrides, "e2e": tiny_e2e_run_overrides}
ENCODER = {"whisper": "model.encoder.", "e2e": "encoder."}
ONE_STEP = (
    "training.max_steps=1",
    "training.save_steps=1",
    "training.learning_rate=1e-3",
    "training.warmup_ratio=0",
    "training.eval_strategy=no",
    "training.load_best_model_at_end=false",
)


@pytest.mark.parametrize("section", ["model", "training"])
def test_freeze_encoder_is_obeyed_in_both_sections_where_the_guide_has_it(
    architecture, section, tiny_corpus, tmp_path
):
    path = tmp_path / "guide.yaml"
    path.write_text(
        f"_base_: nano_{architecture}.yaml\n{section}:\n  freeze_encoder: true\n", encoding="utf-8"
    )
    run_dir = run_training(load_config(path, [*OVERRIDES[architecture](tiny_corpus, tmp_path), *ONE_STEP]))
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "nano", run_dir))
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) == name.startswith(ENCODER[architecture]), name
    groups = torch.load(run_dir / "checkpoint-1" / "optimizer.pt", weights_only=True)["param_groups"]
    assert "encoder" not in {group["part"] for group in groups}


@pytest.fixture
def kept_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For each forward pass in training, the bytes that it keeps for the backward pass."""
    compute_loss, kept = SpeechTrainer.compute_loss, []

    def measured(self: SpeechTrainer, *args: Any, **kwargs: Any) -> Any:
        sizes = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = compute_loss(self, *args, **kwargs)
        kept.append(sum(sizes.values()))
        return loss

    monkeypatch.setattr(SpeechTrainer, "compute_loss", measured)
    return kept


def test_a_frozen_encoder_keeps_no_activations(tiny_config, tiny_corpus, tmp_path, kept_bytes):
    """Not a byte more than a decoder alone that reads its states from a file."""
    features: Path = tmp_path / "features"  # nobody else's states lie beside these
    shutil.copytree(tiny_corpus / "data" / "features", features)
    frozen = "model.freeze_encoder=true"
    for number, options in enumerate([(), (frozen,), (frozen, "model.cache_encoder_states=true")]):
        folder = tmp_path / str(number)
        run_training(
            tiny_config(
                *ONE_STEP,
                *options,
                "loss.ctc_weight=0",
                f"paths.features_dir={features.as_posix()}",
                f"output.dir={folder.as_posix()}",
            )
        )
    trained, computed, read = kept_bytes
    assert computed <= read < trained
