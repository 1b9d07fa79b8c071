"""Learning rates and weight decay by part of the model, and 8-bit optimizers."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.tiny_models import whisper_model, whisper_processor
from vietst.errors import ConfigError
from vietst.models.trainable import TrainingScope, with_frozen_encoder
from vietst.training.checkpoints import LATEST
from vietst.training.parameter_groups import LearningRates, parameter_groups
from vietst.training.run_plan import dry_run
from vietst.training.runner import run_training

RATES = LearningRates(encoder=1e-5, adaptor=1e-3, decoder=1e-4)
UNEVALUATED = ("training.eval_strategy=no", "training.load_best_model_at_end=false")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return whisper_model(whisper_processor())


def groups_of(model: nn.Module, scope: TrainingScope, **settings) -> list[dict]:
    settings = {"weight_decay": 0.1, "decayed_names": [], **settings}
    return parameter_groups(model, scope, RATES, **settings)


@pytest.mark.parametrize("scope", [TrainingScope(), TrainingScope("lna")])
def test_every_parameter_that_trains_at_some_time_is_in_one_group(model, scope):
    with_frozen_encoder(scope).apply(model)  # frozen now, not for good
    grouped = [parameter for group in groups_of(model, scope) for parameter in group["params"]]
    expected = {id(parameter) for name, parameter in model.named_parameters() if scope.trains(name)}
    assert {id(parameter) for parameter in grouped} == expected
    assert len(grouped) == len(expected)


def test_an_encoder_that_stays_frozen_is_in_no_group(model):
    groups = groups_of(model, with_frozen_encoder(TrainingScope()))
    assert {group["part"] for group in groups} == {"decoder"}


def test_parts_have_their_rates_and_the_decoders_come_first():
    model = nn.Module()
    model.encoder = nn.Module()
    model.encoder.layers = nn.Linear(2, 2)
    model.encoder.adapter = nn.Linear(2, 2)
    model.enc_to_dec_proj = nn.Linear(2, 2)
    model.decoder = nn.Linear(2, 2)
    model.ctc_head = nn.Linear(2, 2)
    groups = groups_of(model, TrainingScope())
    assert [group["part"] for group in groups] == ["decoder", "adaptor", "encoder"]
    assert [group["lr"] for group in groups] == [1e-4, 1e-3, 1e-5]
    ids = [{id(parameter) for parameter in group["params"]} for group in groups]
    assert ids[0] == {id(p) for p in [*model.decoder.parameters(), *model.ctc_head.parameters()]}
    assert ids[1] == {
        id(p) for p in [*model.encoder.adapter.parameters(), *model.enc_to_dec_proj.parameters()]
    }


def test_weight_decay_is_for_matrices_only(nano_config):
    run_dir = run_training(
        nano_config(
            *UNEVALUATED, "training.max_steps=1", "training.weight_decay=0.1", "training.save_steps=1"
        )
    )
    state = torch.load(run_dir / "checkpoint-1" / "optimizer.pt", weights_only=True)
    decay_of = {i: group["weight_decay"] for group in state["param_groups"] for i in group["params"]}
    assert set(decay_of.values()) == {0.0, 0.1}
    for index, moments in state["state"].items():
        assert decay_of[index] == (0.1 if moments["exp_avg"].dim() > 1 else 0.0)


def test_parts_learn_at_their_own_rates_under_one_schedule(nano_config):
    run_dir = run_training(
        nano_config(
            *UNEVALUATED,
            "training.max_steps=4",
            "training.save_steps=1",
            "training.save_total_limit=null",
            "training.learning_rate=1e-2",
            "training.encoder_learning_rate=1e-5",
            "training.max_grad_norm=0",
        )
    )
    for step in (1, 2, 3):
        checkpoint = run_dir / f"checkpoint-{step}"
        groups = torch.load(checkpoint / "optimizer.pt", weights_only=True)["param_groups"]
        for group in groups:
            share = group["lr"] / groups[0]["lr"]
            assert share == pytest.approx(1e-3 if group["part"] == "encoder" else 1)
    first, last = (load_file(run_dir / f"checkpoint-{step}" / "model.safetensors") for step in (1, 4))
    change = {name: float((first[name] - last[name]).abs().max()) for name in first}
    encoder = max(size for name, size in change.items() if name.startswith("model.encoder."))
    decoder = max(size for name, size in change.items() if name.startswith("model.decoder."))
    assert 0 < encoder < 1e-4 < 1e-2 < decoder


def test_8_bit_optimizers_without_bitsandbytes_are_refused_with_what_to_do(nano_config, monkeypatch, capsys):
    monkeypatch.setattr("transformers.utils.is_bitsandbytes_available", lambda: False)
    loaded = nano_config("training.optim=adamw_bnb_8bit")
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        run_training(loaded)
    assert not dry_run(loaded)
    assert "bitsandbytes" in capsys.readouterr().out


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("optimizer", ["adamw_bnb_8bit", "paged_adamw_8bit"])
def test_8_bit_optimizers_keep_little_state_leave_the_frozen_alone_and_resume_exactly(nano_config, optimizer):
    options = (
        *UNEVALUATED,
        f"training.optim={optimizer}",
        "training.max_steps=4",
        "training.save_steps=2",
        "training.learning_rate=1e-2",
        "training.freeze_encoder_updates=3",
        "nano.d_model=64",
    )
    straight = run_training(nano_config(*options))
    base, half, end = (
        load_file(folder / "model.safetensors")
        for folder in (Path(nano_config(*options).config.model.name), straight / "checkpoint-2", straight)
    )
    name = "model.encoder.layers.0.fc1.weight"
    assert torch.equal(base[name], half[name])
    assert not torch.equal(base[name], end[name])
    states = torch.load(straight / "checkpoint-4" / "optimizer.pt", weights_only=True)["state"].values()
    kept = [
        tensor
        for state in states
        for inner in state.values()
        if isinstance(inner, dict)
        for tensor in inner.values()
    ]
    assert torch.uint8 in {tensor.dtype for tensor in kept}
    folder = straight.with_name("resumed")
    folder.mkdir()
    (straight / "checkpoint-2").rename(folder / "checkpoint-2")
    run_training(nano_config(*options, f"output.dir={folder.as_posix()}"), resume=LATEST)
    resumed = load_file(folder / "model.safetensors")
    for name, tensor in end.items():
        assert torch.equal(tensor, resumed[name]), name
