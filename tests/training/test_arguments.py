"""Where our configuration becomes transformers' arguments."""

import pytest
import torch
import transformers
from accelerate.state import AcceleratorState, PartialState

from vietst.training.arguments import training_arguments


@pytest.fixture
def two_gpus(monkeypatch):
    """As one process sees a machine with two, as far as arguments ask."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("two_gpus")
def test_a_single_process_trains_on_one_gpu_however_many_there_are(nano_config, caplog):
    config = nano_config("training.bf16=false", "training.batch_size=3").config
    arguments = training_arguments(config, 1)
    assert arguments.device.type == "cuda"
    # More, and transformers would cut the batches into pieces.
    assert arguments.n_gpu == 1
    assert arguments.train_batch_size == 3
    assert "one of 2 GPUs" in caplog.text


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_launch_on_the_cpu_trains_there_beside_a_gpu(nano_config, monkeypatch, request, kind):
    if kind == "cuda":
        request.getfixturevalue("two_gpus")
    else:  # a Mac's
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        monkeypatch.setattr(transformers.training_args, "is_torch_mps_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")  # as `accelerate launch` does with cpu.yaml
    arguments = training_arguments(nano_config("training.bf16=auto").config, 1)
    assert arguments.device == PartialState().device == torch.device("cpu")
    assert not arguments.bf16
