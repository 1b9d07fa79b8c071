"""The bare training scripts mean the production configurations."""

import subprocess
import sys

import pytest

from tests.patience import HANGS_AFTER_S


@pytest.mark.parametrize("kind", ["whisper", "e2e"])
def test_without_arguments_the_production_configuration_is_meant(repo_root, kind):
    script = repo_root / "scripts" / f"train_{kind}.py"
    shown = subprocess.run(
        [sys.executable, str(script), "--help"],
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        check=True,
    )
    assert f"(default: prod_{kind})" in " ".join(shown.stdout.split())
