"""Every launch and DeepSpeed configuration, as accelerate, transformers and DeepSpeed themselves read it.

`tests/training/test_launch_modes.py` launches those that can start without a GPU.
"""

import json
import os
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests import tiny_e2e, tiny_models
from vietst.config import load_config
from vietst.errors import ConfigError
from vietst.training.arguments import find_deepspeed_config, mixed_precision

REPO_ROOT = Path(__file__).resolve().parents[1]
NUM_PROCESSES = {
    "cpu": 1,
    "cpu_x2": 2,
    "ddp": 8,
    "fsdp2": 8,
    "h100x16": 16,
    "h100x8": 8,
    "h100x8_zero3": 8,
    "single_gpu": 1,
}
DEEPSPEED_CONFIGS = sorted(path.stem for path in (REPO_ROOT / "ds_configs").glob("*.json"))

needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")


def launch_file(name: str) -> Path:
    return REPO_ROOT / "accelerate_configs" / f"{name}.yaml"


def header(name: str) -> str:
    lines = launch_file(name).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith("#"))


def launch_arguments(name: str, *options: str) -> Any:
    """What `accelerate launch --config_file …` makes of a file, after its own checks."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    parser = launch_command_parser()
    arguments = parser.parse_args(["--config_file", str(launch_file(name)), *options, "train.py"])
    return _validate_launch_command(arguments)[0]


def test_these_launch_configs_are_there() -> None:
    assert sorted(path.stem for path in (REPO_ROOT / "accelerate_configs").iterdir()) == list(NUM_PROCESSES)


@pytest.mark.parametrize("name", ["cpu", "cpu_x2"])
def test_processes_on_the_cpu_see_no_gpu(name: str) -> None:
    from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

    arguments = launch_arguments(name)
    if name == "cpu":
        _, environment = prepare_simple_launcher_cmd_env(arguments)
    else:
        environment = prepare_multi_gpu_env(arguments)
    assert set(environment["CUDA_VISIBLE_DEVICES"].split(",")) == {"-1"}


@pytest.mark.parametrize("name", NUM_PROCESSES)
def test_every_launch_config_says_what_for_on_what_and_how(name: str) -> None:
    for word in ("Purpose:", "Hardware:", "Launch:", f"--config_file accelerate_configs/{name}.yaml"):
        assert word in header(name)
    script, config = re.search(r"(scripts/\S+) --config (\S+)", header(name)).groups()  # type: ignore[union-attr]
    assert (REPO_ROOT / script).is_file()
    assert (REPO_ROOT / "vietst" / "configs" / f"{config}.yaml").is_file()


@pytest.mark.parametrize("name", NUM_PROCESSES)
def test_accelerate_takes_the_launch_line_of_every_header(name: str) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    line = re.search(r"accelerate launch (.*)", header(name)).group(1)  # type: ignore[union-attr]
    with mock.patch.dict(os.environ, MACHINE_RANK="1", MASTER_ADDR="10.0.0.1", MASTER_PORT="29500"):
        words = shlex.split(os.path.expandvars(line))
    arguments = _validate_launch_command(launch_command_parser().parse_args(words))[0]
    assert (REPO_ROOT / arguments.training_script).is_file()
    if name == "h100x16":
        assert (arguments.machine_rank, arguments.main_process_ip) == (1, "10.0.0.1")
        assert (arguments.num_machines, arguments.num_processes) == (2, 16)


@needs_deepspeed
@pytest.mark.parametrize("name", [name for name in NUM_PROCESSES if name.startswith("h100")])
def test_accelerate_makes_every_deepspeed_launch_config_the_environment_of_its_processes(name: str) -> None:
    from accelerate.utils import DeepSpeedPlugin
    from accelerate.utils.launch import prepare_deepspeed_cmd_env

    options = ("--main_process_ip", "127.0.0.1", "--machine_rank", "1") if name == "h100x16" else ()
    arguments = launch_arguments(name, *options)
    arguments.deepspeed_fields_from_accelerate_config = "deepspeed_config_file"
    command, environment = prepare_deepspeed_cmd_env(arguments)
    assert command is None, "torch starts the processes, not DeepSpeed through ssh"
    assert arguments.num_processes == NUM_PROCESSES[name]
    assert int(arguments.nproc_per_node) == 8
    stage = 3 if name.endswith("zero3") else 2
    assert environment["ACCELERATE_DEEPSPEED_CONFIG_FILE"] == f"ds_configs/zero{stage}.json"
    with mock.patch.dict(os.environ, environment):
        find_deepspeed_config()
        plugin = DeepSpeedPlugin()
    assert plugin.zero_stage == stage
    assert bool(plugin.zero3_init_flag) == (stage == 3)


@pytest.mark.parametrize("name", ["cpu_x2", "ddp", "fsdp2"])
def test_accelerate_makes_every_other_launch_config_of_many_processes_their_environment(name: str) -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    arguments = launch_arguments(name)
    environment = prepare_multi_gpu_env(arguments)
    assert int(arguments.nproc_per_node) == NUM_PROCESSES[name]
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no"
    if name == "fsdp2":
        with mock.patch.dict(os.environ, environment):
            plugin = FullyShardedDataParallelPlugin()
        assert plugin.fsdp_version == 2
        assert plugin.state_dict_type.name == "FULL_STATE_DICT"
        assert plugin.transformer_cls_names_to_wrap is None, "the models name their layers"


# --- DeepSpeed's own files -------------------------------------------------------------------------------


def test_every_deepspeed_file_is_named_by_a_launch_config() -> None:
    text = "".join(launch_file(name).read_text(encoding="utf-8") for name in NUM_PROCESSES)
    assert {f"ds_configs/{name}.json" for name in DEEPSPEED_CONFIGS} == set(
        re.findall(r"ds_configs/\w+\.json", text)
    )


@needs_deepspeed
@pytest.mark.parametrize("kind", ["whisper", "e2e"])
@pytest.mark.parametrize("name", DEEPSPEED_CONFIGS)
def test_transformers_fills_in_every_auto_and_deepspeed_takes_the_result(
    name: str, kind: str, tmp_path: Path
) -> None:
    from deepspeed.runtime.config import DeepSpeedConfig
    from transformers import Seq2SeqTrainingArguments
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    path = REPO_ROOT / "ds_configs" / f"{name}.json"
    assert {"optimizer", "scheduler"}.isdisjoint(json.loads(path.read_text(encoding="utf-8")))
    if kind == "whisper":
        model: Any = tiny_models.whisper_model(tiny_models.whisper_processor())
    else:
        model = tiny_e2e.MultitaskE2E.from_pretrained(tiny_e2e.write_base(tmp_path))
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=True,
        per_device_train_batch_size=3,
        gradient_accumulation_steps=5,
        max_grad_norm=0.7,
    )
    config = HfTrainerDeepSpeedConfig(str(path))
    config.trainer_config_process(arguments)
    config.trainer_config_finalize(arguments, model, num_training_steps=10)
    assert "auto" not in json.dumps(config.config).replace("_auto", "")
    parsed = DeepSpeedConfig(config.config)
    assert parsed.zero_optimization_stage == int(name.removeprefix("zero")[0])
    assert (parsed.train_micro_batch_size_per_gpu, parsed.gradient_accumulation_steps) == (3, 5)
    assert parsed.gradient_clipping == 0.7
    assert parsed.bfloat16_config.enabled
    assert not parsed.float16_config.enabled
    offload = parsed.zero_config.offload_optimizer
    assert (offload is not None and offload.device == "cpu") == name.endswith("_offload")


# --- where DeepSpeed's file is looked for ----------------------------------------------------------------


def deepspeed_launch(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", file)


def test_a_relative_path_counts_from_the_current_folder_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deepspeed_launch(monkeypatch, "ds_configs/zero2.json")
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "ds_configs" / "zero2.json"
    own.parent.mkdir()
    own.write_text("{}", encoding="utf-8")
    find_deepspeed_config()
    assert Path(os.environ["ACCELERATE_DEEPSPEED_CONFIG_FILE"]).resolve() == own
    own.unlink()
    find_deepspeed_config()
    assert Path(os.environ["ACCELERATE_DEEPSPEED_CONFIG_FILE"]) == REPO_ROOT / "ds_configs" / "zero2.json"


def test_a_file_that_is_nowhere_is_named_with_both_places(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deepspeed_launch(monkeypatch, "ds_configs/zero4.json")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        find_deepspeed_config()
    assert str(tmp_path) in error.value.found
    assert str(REPO_ROOT) in error.value.found


def test_bf16_under_deepspeed_without_a_gpu_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = load_config("nano_whisper").config  # has bf16
    assert mixed_precision(config) == (True, False)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ConfigError, match=r"training\.bf16"):
        mixed_precision(config)
