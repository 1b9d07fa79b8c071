"""Ways of fine-tuning in whole E2E runs: the same code as for Whisper, with an adaptor that always trains."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import SpeechEncoderDecoderModel

from tests.tiny_runs import history
from vietst.config import LoadedConfig
from vietst.training.checkpoints import LATEST
from vietst.training.run_plan import dry_run
from vietst.training.runner import run_training

RUN = (
    "training.eval_strategy=no",
    "training.load_best_model_at_end=false",
    "training.save_steps=1",
    "training.save_total_limit=null",
    "training.learning_rate=1e-2",
    "training.adaptor_learning_rate=2e-2",
    "training.freeze_feature_encoder=true",
    "training.freeze_encoder_updates=2",
    "model.length_adaptor=true",
    "lora.rank=4",
)


@pytest.fixture
def e2e_config(nano_e2e_config: Callable[..., LoadedConfig]) -> Callable[..., LoadedConfig]:
    return lambda *overrides: nano_e2e_config(*RUN, *overrides)


def checkpoint(run_dir: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run_dir / f"checkpoint-{step}" / "model.safetensors")


def names_that_moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def is_new(name: str) -> bool:
    return name.startswith(("encoder.adapter.", "enc_to_dec_proj.", "ctc_head."))


def is_encoder(name: str) -> bool:
    return name.startswith("encoder.") and not is_new(name)


LNA_PIECES = (".attention.", "_attn.", "layer_norm", "layernorm")
TRAINED = {
    "full": lambda name: "masked_spec_embed" not in name,
    "lna": lambda name: any(piece in name for piece in LNA_PIECES),
    # a checkpoint has the merged weights beside the adapters
    "lora": lambda name: ".lora_" in name or name.endswith(("q_proj.weight", "v_proj.weight")),
}


@pytest.mark.parametrize("finetune", ["full", "lna", "lora"])
def test_what_moves_before_and_after_the_encoder_joins_and_resuming_at_that_step(e2e_config, finetune):
    run_dir = run_training(e2e_config(f"model.finetune={finetune}"))
    steps = {step: checkpoint(run_dir, step) for step in (1, 2, 3, 4)}
    expected = {
        name
        for name in steps[1]
        if is_new(name) or (TRAINED[finetune](name) and ".feature_extractor." not in name)
    }
    frozen, free = names_that_moved(steps[1], steps[2]), names_that_moved(steps[3], steps[4])
    assert frozen == {name for name in expected if not is_encoder(name)}
    assert free == expected
    assert any(is_encoder(name) for name in free)
    _, loading = SpeechEncoderDecoderModel.from_pretrained(run_dir, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]

    folder = run_dir.with_name("resumed")
    shutil.copytree(run_dir / "checkpoint-2", folder / "checkpoint-2")
    resumed = run_training(
        e2e_config(f"model.finetune={finetune}", f"output.dir={folder.as_posix()}"), resume=LATEST
    )
    assert history(resumed, "loss") == history(run_dir, "loss")
    assert not names_that_moved(steps[4], checkpoint(resumed, 4))


def test_the_adaptor_learns_at_its_own_rate(e2e_config):
    run_dir = run_training(e2e_config("training.max_steps=2"))
    groups = torch.load(run_dir / "checkpoint-1" / "optimizer.pt", weights_only=True)["param_groups"]
    rates = {group["part"]: group["initial_lr"] for group in groups}
    assert rates == {"decoder": 1e-2, "adaptor": 2e-2, "encoder": 1e-2}


@pytest.mark.parametrize("stated", ["true", "false"])
def test_the_guides_add_adapter_is_accepted_and_the_plan_says_what_it_means(e2e_config, stated, capsys):
    assert dry_run(e2e_config(f"model.add_adapter={stated}", "model.length_adaptor=true"))
    with_key = capsys.readouterr().out
    assert "model.add_adapter: means the projection" in with_key
    assert "model.length_adaptor (this model is with)" in with_key
    assert dry_run(e2e_config())
    without = capsys.readouterr().out
    assert "model.add_adapter: means" not in without
    [parameters] = [line for line in with_key.splitlines() if line.startswith("parameters:")]
    assert parameters in without, "the same model"
