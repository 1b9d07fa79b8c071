"""The real script under `accelerate launch`, in one and in two processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_runs import history, tiny_run_overrides


def launch(repo_root: Path, accelerate_config: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`accelerate launch --config_file accelerate_configs/<name>.yaml scripts/train_whisper.py …`"""
    return subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch"),
            *("--config_file", str(repo_root / "accelerate_configs" / f"{accelerate_config}.yaml")),
            *(str(repo_root / "scripts" / "train_whisper.py"), "--config", "nano_whisper", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(repo_root)},
    )


@pytest.mark.slow
def test_two_processes_learn_and_score_as_one_does(repo_root, tiny_corpus, tmp_path):
    """Gradients are not too large by the number of processes (STACK S1), and every dev utterance is scored
    once though the samplers repeat some (S2, S3)."""
    options = (
        "training.effective_batch=8",
        "training.max_steps=3",
        "training.eval_steps=3",
        "training.save_steps=3",
    )
    for config, batch_size in (("cpu", 8), ("cpu_x2", 4)):
        folder = tmp_path / config
        ran = launch(
            repo_root,
            config,
            *tiny_run_overrides(tiny_corpus, folder),
            *options,
            f"training.batch_size={batch_size}",
            "training.eval_batch_size=2",
            "evaluation.max_dev_utterances=7",
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
    one, two = tmp_path / "cpu" / "run", tmp_path / "cpu_x2" / "run"
    for key in ("loss", "grad_norm"):
        assert history(two, key) == pytest.approx(history(one, key), rel=1e-4), key
    assert history(two, "eval_num_utterances") == [7]
    assert history(two, "eval_loss") == pytest.approx(history(one, "eval_loss"), rel=1e-4)


def test_a_users_mistake_ends_with_a_message_that_is_the_scripts_last_word(repo_root):
    ran = launch(repo_root, "cpu", "training.learning_rat=1")
    assert ran.returncode != 0
    ours, _, launchers = ran.stderr.partition("Traceback (most recent call last):")
    assert "learning_rat" in ours
    assert "learning_rate" in ours, "the nearest known key is named"
    assert "vietst" not in launchers, "the only traceback is the launcher's own"
    alone = subprocess.run(
        [sys.executable, str(repo_root / "scripts" / "train_whisper.py"), "training.learning_rat=1"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert alone.returncode == 2
    assert "Traceback" not in alone.stderr


def test_help_and_argument_errors_do_not_import_torch(repo_root):
    for script in ("train_whisper.py", "run_evaluation.py"):
        program = (
            "import runpy, sys\n"
            f"sys.argv = ['{script}', '--help']\n"
            "try:\n"
            f"    runpy.run_path({str(repo_root / 'scripts' / script)!r}, run_name='__main__')\n"
            "except SystemExit:\n"
            "    pass\n"
            "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        )
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        assert "usage" in ran.stdout
