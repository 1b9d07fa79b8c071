"""Training steps on a GPU, as far as that shows without one: see `tests.training.fake_gpu_step`."""

import json
import subprocess
import sys
from typing import Any

import pytest


@pytest.fixture(scope="module")
def steps() -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "tests.training.fake_gpu_step"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_no_step_mixes_devices_or_has_the_host_wait_for_the_gpu(steps):
    assert len(steps) == 9
    assert not {name: step["waits"] for name, step in steps.items() if step["waits"]}


def test_all_that_trains_gets_a_gradient_on_the_gpu_from_a_float32_loss(steps):
    assert not {name: step["without_gradient"] for name, step in steps.items() if step["without_gradient"]}
    assert {step["loss"] for step in steps.values()} == {"torch.float32"}
