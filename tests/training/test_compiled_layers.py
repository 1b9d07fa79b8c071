"""Compiled training learns what eager training does, with few compilations, and its checkpoints are the same.

Most tests leave the machine code out (`aot_eager`): it is the tracing that can go wrong here.
"""

import shutil
from pathlib import Path

import pytest
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch._dynamo.utils import counters
from torch._inductor.exc import InvalidCxxCompiler

from tests.doubled_batch import loss_and_gradients
from tests.launches import launch
from tests.tiny_e2e import e2e_batch, waveform_rows, write_base
from tests.tiny_models import cached_rows, whisper_batch, whisper_model, whisper_processor
from tests.tiny_runs import history, tiny_run_overrides
from vietst.config import load_config
from vietst.errors import ConfigError
from vietst.models import e2e, e2e_inputs
from vietst.training import compiled_layers
from vietst.training.checkpoints import LATEST
from vietst.training.run_plan import dry_run
from vietst.training.runner import run_training

ROWS_OF_BATCHES = ([0, 1], [0, 1, 2], [1, 3], [0, 1, 2, 3], [3, 2, 0])
"""As many numbers of clips, labels and (in wav2vec2) samples."""


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()
    counters.clear()


@pytest.fixture
def traced_only(monkeypatch):
    monkeypatch.setattr(compiled_layers, "BACKEND", "aot_eager")


def whisper_and_batches(tmp_path: Path):
    processor, rows = whisper_processor(), cached_rows(4)
    batches = [whisper_batch(processor, [rows[index] for index in some]) for some in ROWS_OF_BATCHES]
    in_short_window = {**batches[0], "input_features": batches[0]["input_features"][..., :120]}
    in_short_window["attention_mask"] = in_short_window["attention_mask"][:, :120]
    return lambda: whisper_model(processor), [*batches, in_short_window]


def e2e_and_batches(tmp_path: Path):
    base = str(write_base(tmp_path))
    processor, rows = e2e_inputs.load_processor(base), waveform_rows(4)

    def model():
        config = e2e.load_model_config(base)
        e2e.set_dropout(config, 0.0)
        made = e2e.load_model(base, config=config)
        made.encoder.masked_spec_embed.requires_grad_(False)
        return made

    return model, [e2e_batch(processor, [rows[index] for index in some]) for some in ROWS_OF_BATCHES]


@pytest.mark.parametrize(
    ("make", "checkpointing"),
    [
        (whisper_and_batches, True),
        (e2e_and_batches, False),
        pytest.param(whisper_and_batches, False, marks=pytest.mark.slow),
        pytest.param(e2e_and_batches, True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("traced_only")
def test_loss_and_gradients_are_those_of_eager_training_and_sizes_are_compiled_once(
    make, checkpointing, tmp_path
):
    make_model, batches = make(tmp_path)
    eager, compiled = make_model().train(), make_model().train()
    if checkpointing:
        for model in (eager, compiled):
            model.activation_checkpointing_enable({"use_reentrant": False})
    compiled_layers.compile_layers(compiled)
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    for batch in batches:
        expected_loss, expected = loss_and_gradients(eager, batch)
        loss, gradients = loss_and_gradients(compiled, batch)
        assert loss == pytest.approx(expected_loss, rel=1e-6)
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-7, msg=name)
    # A layer of each stack; once more where two sizes that were equal at first no longer are.
    assert 2 <= counters["stats"]["unique_graphs"] <= 3
    assert not counters["graph_break"]
    with torch.no_grad(), compiled_layers.eager():
        compiled.eval()(**whisper_or_e2e_of_one(make, tmp_path))
    assert counters["stats"]["unique_graphs"] <= 3, "evaluation compiles nothing"


def whisper_or_e2e_of_one(make, tmp_path: Path) -> dict[str, torch.Tensor]:
    """A batch of one clip, for which training would compile anew."""
    if make is whisper_and_batches:
        return whisper_batch(whisper_processor(), cached_rows(1))
    return e2e_batch(e2e_inputs.load_processor(str(tmp_path / "base")), waveform_rows(1))


def test_every_kind_of_batch_is_compiled(tmp_path, monkeypatch):
    """With masks and without, of one clip and several, the encoder frozen or not: more than PyTorch's 8."""
    monkeypatch.setattr(compiled_layers, "BACKEND", "eager")
    make_model, batches = e2e_and_batches(tmp_path)
    processor, (first, *_) = e2e_inputs.load_processor(str(tmp_path / "base")), waveform_rows(1)
    batches = [*batches[:2], e2e_batch(processor, [first]), e2e_batch(processor, [first, first])]
    model = make_model()
    compiled_layers.compile_layers(model)
    for model.encoder_is_frozen in (True, False):
        model.train()
        for batch in batches:
            model(**batch).loss.backward()
    assert counters["frames"]["ok"] == counters["frames"]["total"] > 8


def train(corpus: Path, folder: Path, *options: str, resume: str | None = None) -> Path:
    overrides = [
        *tiny_run_overrides(corpus, folder),
        "training.max_steps=6",
        "training.eval_steps=3",
        "training.save_steps=3",
        "training.load_best_model_at_end=false",
        "training.freeze_encoder_updates=2",
        "evaluation.max_dev_utterances=3",
        *options,
    ]
    return run_training(load_config("nano_whisper", overrides), resume=resume)


@pytest.mark.usefixtures("traced_only")
@pytest.mark.parametrize("finetune", ["full", pytest.param("lora", marks=pytest.mark.slow)])
def test_a_training_and_its_checkpoints_are_those_of_eager_training(tiny_corpus, tmp_path, finetune):
    """Whose encoder is frozen first, and whichever of the two it goes on with."""
    options = (f"model.finetune={finetune}",)
    eager = train(tiny_corpus, tmp_path / "eager", *options)
    assert not counters["stats"]
    compiled = train(tiny_corpus, tmp_path / "compiled", *options, "training.compile=true")
    # Both stacks, with the encoder frozen and not; evaluations would double them.
    assert 4 <= counters["stats"]["unique_graphs"] <= 6
    for key in ("loss", "grad_norm", "eval_loss"):
        assert history(compiled, key) == pytest.approx(history(eager, key), rel=1e-4), key
    weights, expected = (load_file(run / "checkpoint-3" / "model.safetensors") for run in (compiled, eager))
    assert weights.keys() == expected.keys()
    for run, other in ((compiled, "false"), (eager, "true")):
        losses = history(run, "loss")
        (run / "checkpoint-6").rename(run / "later")
        train(tiny_corpus, run.parent, *options, f"training.compile={other}", resume=LATEST)
        assert history(run, "loss")[-3:] == pytest.approx(losses[-3:], rel=1e-4)


@pytest.mark.usefixtures("traced_only")
def test_an_encoder_whose_states_are_cached_is_not_compiled(tiny_corpus, tmp_path):
    shutil.copytree(tiny_corpus / "data" / "features", tmp_path / "features")  # where no states lie yet
    options = ("training.freeze_encoder_updates=null", "model.freeze_encoder=true", "training.max_steps=1")
    cached = ("model.cache_encoder_states=true", f"paths.features_dir={(tmp_path / 'features').as_posix()}")
    train(tiny_corpus, tmp_path, *options, *cached, "training.eval_strategy=no", "training.compile=true")
    assert counters["stats"]["unique_graphs"] == 1  # of the decoder


@pytest.mark.slow
def test_two_processes_train_compiled_as_one_does_eagerly(tiny_corpus, tmp_path):
    """With machine code, in bfloat16 and by the scripts."""
    runs = {}
    for name, launch_config, batch_size in (("eager", "cpu", 4), ("compiled", "cpu_x2", 2)):
        folder = tmp_path / name
        folder.mkdir()
        ran = launch(
            launch_config,
            "scripts/train_whisper.py",
            *("--config", "nano_whisper", *tiny_run_overrides(tiny_corpus, folder)),
            *("training.effective_batch=4", f"training.batch_size={batch_size}", "training.bf16=true"),
            f"training.compile={str(name == 'compiled').lower()}",
            cwd=folder,
        )
        assert ran.returncode == 0, ran.stderr[-4000:]
        runs[name] = folder / "run"
    for key, tolerance in (("loss", 5e-3), ("grad_norm", 0.05)):
        expected = history(runs["eager"], key)
        assert history(runs["compiled"], key) == pytest.approx(expected, rel=tolerance), key


def no_compiler() -> str:
    raise InvalidCxxCompiler


def test_without_a_compiler_or_whole_weights_it_is_refused(monkeypatch):
    model = whisper_model(whisper_processor())
    PartialState(cpu=True)
    with monkeypatch.context() as patched:
        patched.setattr(torch._inductor.cpp_builder, "get_cpp_compiler", no_compiler)
        with pytest.raises(ConfigError, match="no C\\+\\+ compiler"):
            compiled_layers.compile_layers(model)
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: True)
        patched.setattr(torch.utils._triton, "has_triton", lambda: False)
        with pytest.raises(ConfigError, match="no Triton"):
            compiled_layers.compile_layers(model)
    with monkeypatch.context() as patched:  # as the launcher tells it, before there is a Trainer
        patched.setenv("ACCELERATE_USE_FSDP", "true")
        compiled_layers.require_compilable()  # of one process, or without GPUs, whole models are trained
        patched.setitem(PartialState._shared_state, "distributed_type", DistributedType.MULTI_GPU)
        with pytest.raises(ConfigError, match="FSDP"):
            compiled_layers.compile_layers(model)
    monkeypatch.setattr(transformers.integrations, "is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(ConfigError, match="ZeRO-3"):
        compiled_layers.compile_layers(model)


def test_a_dry_run_says_so_too(tiny_corpus, tmp_path, monkeypatch, capsys):
    loaded = load_config(
        "nano_whisper", [*tiny_run_overrides(tiny_corpus, tmp_path), "training.compile=true"]
    )
    monkeypatch.setattr(torch._inductor.cpp_builder, "get_cpp_compiler", no_compiler)
    assert not dry_run(loaded)
    assert "no C++ compiler" in capsys.readouterr().out
