"""The bare training scripts mean the production configurations."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("kind", ["whisper", "e2e"])
def test_without_arguments_the_production_configuration_is_meant(repo_root, kind):
    script = repo_root / "scripts" / f"train_{kind}.py"
    shown = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"(default: prod_{kind})" in " ".join(shown.stdout.split())
