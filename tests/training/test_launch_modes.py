"""The real scripts in every way of launching that can start without a GPU, against a single process.

Each run has all that could tell processes apart: batches that are accumulated, an uneven last step in every
epoch, an encoder that joins in the middle of one, evaluations of dev and an extra set with unequal work (also
before the first step), a checkpoint and a model.
"""

import dataclasses
import functools
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import SpeechEncoderDecoderModel, WhisperForConditionalGeneration

from tests import tiny_e2e, tiny_models
from tests.launches import REPO_ROOT, launch
from tests.patience import HANGS_AFTER_S
from tests.tiny_runs import history, tiny_e2e_run_overrides, tiny_run_overrides
from vietst.data.feature_cache import build_feature_cache
from vietst.data.features import LOG_MEL_80
from vietst.data.splits import read_split
from vietst.inference.self_check import read_expected
from vietst.models.nano import ensure_nano_whisper

pytestmark = pytest.mark.slow

TWO = ("--num_processes", "2")


def deepspeed(file: str) -> tuple[str, ...]:
    return (*TWO, "--deepspeed_config_file", f"ds_configs/{file}.json")


MODES: dict[str, tuple[str, tuple[str, ...]]] = {
    "one process": ("cpu", ()),
    "ddp": ("cpu_x2", ()),
    "zero1": ("h100x8", deepspeed("zero1")),
    "zero1_offload": ("h100x8", deepspeed("zero1_offload")),
    "zero2": ("h100x8", TWO),
    "zero2_offload": ("h100x8", deepspeed("zero2_offload")),
    "zero3": ("h100x8_zero3", TWO),
    "zero3_offload": ("h100x8_zero3", deepspeed("zero3_offload")),
    "fsdp2": ("fsdp2", TWO),
}
"""Launch configuration, and options of the launcher."""

NUM_STEPS, NUM_DEV, NUM_EXTRA = 22, 7, 5
# 35 utterances are 4 steps of 8 and one of 3.
OPTIONS = (
    f"training.max_steps={NUM_STEPS}",
    "training.effective_batch=8",
    "training.freeze_encoder_updates=9",
    "training.learning_rate=1e-3",
    "training.weight_decay=0.1",
    # Below it are gradients that are rounding errors, of which Adam makes steps as long as of others.
    "training.adam_epsilon=1e-4",
    "training.eval_steps=11",
    "training.save_steps=22",
    "training.eval_batch_size=2",
    f"evaluation.max_dev_utterances={NUM_DEV}",
    f"evaluation.max_extra_utterances={NUM_EXTRA}",
)
STOCK = {"whisper": WhisperForConditionalGeneration, "e2e": SpeechEncoderDecoderModel}
OVERRIDES = {"whisper": tiny_run_overrides, "e2e": tiny_e2e_run_overrides}
OPTIONS_OF_KIND = {
    # In a short window that all clips fit, and in some steps in the whole one. With several, the uneven last
    # step of an epoch would not be the same in smaller batches: a clip is heard in the window of its batch.
    "whisper": (
        "audio.context=bucketed",
        "audio.context_windows_s=[3.7]",
        "audio.context_margin_s=0.02",
        "audio.context_longer_share=0.3",
    ),
    # As in production. Its ReLUs, which tiny differences of the weights switch, would multiply these.
    "e2e": ("training.freeze_feature_encoder=true",),
}

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4
"""Relative, in float32. A gradient's norm takes up more of the order in which processes are summed."""
WEIGHT_TOLERANCE = 3e-5
"""Absolute, of the last weights. It sees a decay of the frozen encoder, which losses do not."""


def run(corpus: Path, folder: Path, kind: str, mode: str, *overrides: str, script: str | None = None) -> Path:
    """The run folder of a training, launched in another current folder than the checkout."""
    folder.mkdir()
    config, options = MODES[mode]
    arguments = [
        *("--config", f"nano_{kind}", *OVERRIDES[kind](corpus, folder)),
        *(*OPTIONS, *OPTIONS_OF_KIND[kind]),
        f"training.batch_size={8 if mode == 'one process' else 2}",
        f"evaluation.extra_sets={{extra: {{path: {corpus.as_posix()}/data/splits/test.csv}}}}",
        *overrides,
    ]
    script = script or f"scripts/train_{kind}.py"
    if mode == "fsdp2":
        arguments.insert(0, str(REPO_ROOT / script))
        script = "tests/training/fsdp_on_cpu.py"
    ran = launch(config, script, *arguments, options=options, cwd=folder, DS_ACCELERATOR="cpu")
    assert ran.returncode == 0, ran.stderr[-4000:]
    return folder / "run"


def largest_difference(found: list[float], expected: list[float]) -> float:
    """The largest relative one of any step."""
    assert len(found) == len(expected) == NUM_STEPS
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))


def require_agreement(found: Path, expected: Path, kind: str) -> None:
    """That two runs learned the same, step by step."""
    for key, tolerance in (("loss", LOSS_TOLERANCE), ("grad_norm", GRADIENT_TOLERANCE)):
        difference = largest_difference(history(found, key), history(expected, key))
        print(f"{found.parent.name}: {key} differs by {difference:.1e}")
        assert difference < tolerance, (key, difference)
    ours, theirs = (released_weights(run_dir, kind) for run_dir in (found, expected))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=WEIGHT_TOLERANCE, msg=name)


def released_weights(run_dir: Path, kind: str) -> dict[str, torch.Tensor]:
    """As stock transformers loads them; in the file, two have other names after ZeRO-3."""
    model, loading = STOCK[kind].from_pretrained(run_dir, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    return model.state_dict()


@pytest.fixture(scope="module")
def one_process(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Run folders of the single process that the others are compared with."""

    @functools.cache
    def of_kind(kind: str) -> Path:
        return run(tiny_corpus, tmp_path_factory.mktemp("one") / kind, kind, "one process")

    return of_kind


COMPARED = [
    *((mode, kind) for mode in ("ddp", "zero1", "zero2", "zero3", "fsdp2") for kind in ("whisper", "e2e")),
    ("zero2_offload", "whisper"),
    ("zero3_offload", "e2e"),
]


@pytest.mark.parametrize(("mode", "kind"), COMPARED)
def test_two_processes_learn_and_score_what_one_does(one_process, tiny_corpus, tmp_path, mode, kind):
    if mode.startswith("zero") and find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed")
    alone = one_process(kind)
    together = run(tiny_corpus, tmp_path / mode, kind, mode)
    require_agreement(together, alone, kind)
    assert history(together, "learning_rate") == history(alone, "learning_rate")
    assert history(together, "eval_num_utterances") == [NUM_DEV] * 3
    assert history(together, "eval_extra_num_utterances") == [NUM_EXTRA] * 3
    for loss in ("eval_loss", "eval_extra_loss"):
        assert history(together, loss) == pytest.approx(history(alone, loss), rel=LOSS_TOLERANCE)
    for score in ("eval_wer", "eval_cer", "eval_bleu", "eval_chrf", "eval_extra_wer", "eval_extra_cer"):
        assert history(together, score) == history(alone, score), score
    said = [read_expected(folder) for folder in (together, alone)]  # by rank 0 alone, from the saved weights
    assert said[0] is not None
    assert said[1] is not None
    for task, expected in said[1].tasks.items():
        assert said[0].tasks[task]["log_probability"] == pytest.approx(expected["log_probability"], abs=1e-2)


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
def test_a_loss_that_is_not_scaled_by_all_label_tokens_fails_the_comparison(
    one_process, tiny_corpus, tmp_path
):
    """STACK S1: stock models take the mean of each batch, whatever else is in the step."""
    script = "tests/training/unscaled_run.py"
    unscaled = run(tiny_corpus, tmp_path / "unscaled", "whisper", "zero1_offload", script=script)
    with pytest.raises(AssertionError, match="loss"):
        require_agreement(unscaled, one_process("whisper"), "whisper")


# --- the commands of the README --------------------------------------------------------------------------

THREE_STEPS = (
    "training.max_steps=3",
    "training.eval_steps=3",
    "training.save_steps=3",
    "training.logging_steps=1",
    "evaluation.max_dev_utterances=5",
    "evaluation.max_new_tokens_base=6",
    "evaluation.max_new_tokens_per_second=1",
    "dataloader.num_workers=1",
)


def production_e2e_overrides(corpus: Path, folder: Path) -> list[str]:
    """What lets prod_e2e train where neither its models nor its memory are: paths and sizes, nothing else."""
    encoder = tiny_e2e.write_encoder(folder / "encoder", "layer")  # as XLSR-53
    decoder = tiny_e2e.write_decoder(folder / "decoder", max_position_embeddings=128)
    return [
        *_production_overrides(corpus, folder, corpus / "data" / "features"),
        f"model.name={(folder / 'base').as_posix()}",
        f"model.encoder={encoder.as_posix()}",
        f"model.decoder={decoder.as_posix()}",
        "training.batch_seconds=12",
        "training.effective_batch_seconds=48",
        "training.freeze_encoder_updates=1",
    ]


def production_whisper_overrides(corpus: Path, folder: Path) -> list[str]:
    """The same of prod_whisper, with the features of published Whispers."""
    build_feature_cache(
        corpus / "data" / "splits", folder / "features", LOG_MEL_80, audio_root=corpus, num_proc=1
    )
    model = folder / "whisper"
    shape = dataclasses.replace(tiny_models.SHAPE, hop_length_samples=160, window_s=30)
    texts = [row["transcript"] for row in read_split(corpus / "data" / "splits", "train")]
    ensure_nano_whisper(model, shape, texts)
    return [
        *_production_overrides(corpus, folder, folder / "features"),
        f"model.name={model.as_posix()}",
        "training.batch_size=2",
        "training.effective_batch=8",
    ]


def _production_overrides(corpus: Path, folder: Path, features: Path) -> list[str]:
    return [
        f"paths.data_root={corpus.as_posix()}",
        f"paths.splits_dir={(corpus / 'data' / 'splits').as_posix()}",
        f"paths.features_dir={features.as_posix()}",
        f"output.dir={(folder / 'run').as_posix()}",
        *THREE_STEPS,
    ]


def require_three_steps(run_dir: Path, kind: str = "e2e") -> None:
    assert len(history(run_dir, "loss")) == 3
    assert history(run_dir, "eval_num_utterances") == [5]
    assert (run_dir / "checkpoint-3" / "trainer_state.json").is_file()
    assert not STOCK[kind].from_pretrained(run_dir, output_loading_info=True)[1]["missing_keys"]


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.parametrize("kind", ["whisper", "e2e"])
def test_the_production_command_as_it_stands_trains_evaluates_and_saves(tiny_corpus, tmp_path, kind):
    """`accelerate launch --config_file accelerate_configs/h100x8.yaml scripts/train_<kind>.py`, in two."""
    make = {"whisper": production_whisper_overrides, "e2e": production_e2e_overrides}[kind]
    overrides = make(tiny_corpus, tmp_path)
    ran = launch("h100x8", f"scripts/train_{kind}.py", *overrides, options=TWO, DS_ACCELERATOR="cpu")
    assert ran.returncode == 0, ran.stderr[-4000:]
    require_three_steps(tmp_path / "run", kind)
    shares = (tmp_path / "run" / "checkpoint-3" / "global_step3").glob("*zero_pp_rank_*_optim_states.pt")
    assert len(list(shares)) == 2, "both ranks' shares of the optimizer: it is ZeRO"


SRUN = f"""#!{sys.executable}
# Runs the command once for each node, all at a time, as srun does with a task on each.
import os, subprocess, sys
command = sys.argv[1:]
while command[0].startswith("--"):
    command.pop(0)
nodes = [
    subprocess.Popen(command, env=os.environ | {{"SLURM_NODEID": str(node)}})
    for node in range(int(os.environ["SLURM_NNODES"]))
]
sys.exit(max(node.wait() for node in nodes))
"""


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_slurm_script_lets_the_launchers_of_two_nodes_train_together(tiny_corpus, tmp_path):
    """With stand-ins for SLURM's own two programs, and both nodes on this machine."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/sh\necho localhost\necho elsewhere\n")):
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(stat.S_IRWXU)
    slurm = {
        "SLURM_SUBMIT_DIR": str(REPO_ROOT),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
    }
    script = [str(REPO_ROOT / "scripts" / "run_slurm.sbatch"), "scripts/train_e2e.py"]
    ran = subprocess.run(
        ["bash", *script, *production_e2e_overrides(tiny_corpus, tmp_path)],
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        cwd=tmp_path,
        env={
            **os.environ,
            **slurm,
            "DS_ACCELERATOR": "cpu",
            "VIETST_PYTHON": sys.executable,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        },
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    require_three_steps(tmp_path / "run")
    record = json.loads((tmp_path / "run" / "environment.json").read_text(encoding="utf-8"))
    assert record["world_size"] == 2
