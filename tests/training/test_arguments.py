"""Where our configuration becomes transformers' arguments."""

import pytest
import torch
import transformers
from accelerate.state import AcceleratorState, PartialState

from vietst.errors import ConfigError
from vietst.training.arguments import mixed_precision, training_arguments


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


@pytest.mark.usefixtures("two_gpus")
def test_more_processes_than_gpus_are_refused_with_the_number_that_fits(nano_config, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")  # h100x8.yaml
    with pytest.raises(ConfigError) as error:
        training_arguments(nano_config("training.bf16=false").config, 1)
    assert error.value.found == "8 processes on this machine, and 2 GPU(s)"
    assert "--num_processes 2" in error.value.do


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_without_bfloat16_trains_in_float16_and_refuses_to_imitate_it(nano_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    assert mixed_precision(nano_config("training.bf16=auto").config) == (False, True)
    with pytest.raises(ConfigError, match="Tesla T4"):
        mixed_precision(nano_config("training.bf16=true").config)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # the CPU beside it has it
    assert mixed_precision(nano_config("training.bf16=true").config) == (True, False)
