"""How the real scripts speak: a user's mistake, with and without a launcher, and `--help`."""

import subprocess
import sys

from tests.launches import launch
from tests.patience import HANGS_AFTER_S


def test_a_users_mistake_ends_with_a_message_that_is_the_scripts_last_word(repo_root):
    ran = launch("cpu", "scripts/train_whisper.py", "--config", "nano_whisper", "training.learning_rat=1")
    assert ran.returncode != 0
    ours, _, launchers = ran.stderr.partition("Traceback (most recent call last):")
    assert "learning_rat" in ours
    assert "learning_rate" in ours, "the nearest known key is named"
    assert str(repo_root / "vietst") not in launchers, "the only traceback is the launcher's own"
    alone = subprocess.run(
        [sys.executable, str(repo_root / "scripts" / "train_whisper.py"), "training.learning_rat=1"],
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
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
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=HANGS_AFTER_S
        )
        assert ran.returncode == 0, ran.stderr
        assert "usage" in ran.stdout
