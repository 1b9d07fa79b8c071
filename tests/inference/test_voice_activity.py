"""Speech probabilities: those of Silero's own loader, in blocks of any size, without its side effects."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.tiny_models import tone
from vietst.inference.voice_activity import CHUNK_SAMPLES, VoiceActivity, load_network


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return load_network()


def probabilities(network: torch.nn.Module, samples: np.ndarray, block: int) -> np.ndarray:
    activity = VoiceActivity(network)
    blocks = [activity(samples[start : start + block]) for start in range(0, len(samples), block)]
    return np.concatenate([*blocks, activity.finish()])


def test_probabilities_are_those_of_the_packages_own_model_whatever_the_blocks(network, tiny_corpus) -> None:
    from vietst.data.audio import load_waveform

    clips = sorted((tiny_corpus / "data" / "export").rglob("*.wav"))[:4]
    samples = np.concatenate([tone(0.7, seed=1), *map(load_waveform, clips), np.zeros(5000, np.float32)])
    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad

    torch.set_num_threads(threads)
    theirs = load_silero_vad()
    padded = np.pad(samples, (0, -len(samples) % CHUNK_SAMPLES))
    with torch.no_grad():
        expected = [
            theirs(torch.from_numpy(chunk), 16_000).item() for chunk in padded.reshape(-1, CHUNK_SAMPLES)
        ]
    assert min(expected) < 0.1, "the recording has pauses"
    assert max(expected) > 0.9, "and speech"
    for block in (len(samples), 16_001, 300):
        np.testing.assert_allclose(probabilities(network, samples, block), expected, atol=1e-4)


def test_the_detector_leaves_the_number_of_threads_alone() -> None:
    program = (
        "import torch; torch.set_num_threads(3)\n"
        "from vietst.inference.voice_activity import load_network; load_network()\n"
        "print(torch.get_num_threads())"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["3"]
