"""Where somebody speaks: Silero VAD's network, for blocks of a recording of any length.

The weights are those of the TorchScript file that the package `silero-vad` carries. The package itself goes
chunk by chunk, 32 ms at a time, and sets the whole process to one thread when it is imported. Here the
convolutions see all chunks of a block at once, and the LSTM runs over them: the same probabilities, many
times as fast.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vietst.errors import ModelError

CHUNK_SAMPLES: Final = 512
"""At 16 kHz; one probability for each."""
_CONTEXT_SAMPLES: Final = 64
"""Of the chunk before, which the network hears too."""
_WIDTH: Final = 128
_NUM_FREQUENCIES: Final = 129


class SileroNetwork(nn.Module):
    """The 16 kHz half of Silero VAD 6."""

    def __init__(self) -> None:
        super().__init__()
        self.fourier = nn.Conv1d(1, 2 * _NUM_FREQUENCIES, kernel_size=256, stride=128, bias=False)
        self.convolutions = nn.ModuleList(
            [
                nn.Conv1d(_NUM_FREQUENCIES, 128, kernel_size=3, padding=1),
                nn.Conv1d(128, 64, kernel_size=3, stride=2, padding=1),
                nn.Conv1d(64, 64, kernel_size=3, stride=2, padding=1),
                nn.Conv1d(64, _WIDTH, kernel_size=3, padding=1),
            ]
        )
        self.lstm = nn.LSTM(_WIDTH, _WIDTH)
        self.output = nn.Conv1d(_WIDTH, 1, kernel_size=1)

    def forward(
        self, chunks: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """[num_chunks, context + chunk samples] in the order of time → speech probabilities [num_chunks]."""
        outputs, state = self.lstm(self.hear(chunks)[:, None], state)  # [num_chunks, 1, width]
        return self.judge(outputs[:, 0]), state

    def hear(self, chunks: torch.Tensor) -> torch.Tensor:
        """[num_chunks, context + chunk samples], each by itself → what the LSTM reads [num_chunks, width]."""
        padded = functional.pad(chunks, (0, _CONTEXT_SAMPLES), mode="reflect")[:, None]
        real, imaginary = self.fourier(padded).split(_NUM_FREQUENCIES, dim=1)
        hidden = (real.square() + imaginary.square()).sqrt()  # [num_chunks, frequencies, 4]
        for convolution in self.convolutions:
            hidden = functional.relu(convolution(hidden))
        return hidden[..., 0]

    def judge(self, outputs: torch.Tensor) -> torch.Tensor:
        """What the LSTM wrote [num_chunks, width] → speech probabilities [num_chunks]."""
        return torch.sigmoid(self.output(functional.relu(outputs)[..., None])).flatten()


_THEIR_NAMES: Final = {
    "fourier.weight": "_model.stft.forward_basis_buffer",
    **{
        f"convolutions.{index}.{kind}": f"_model.encoder.{index}.reparam_conv.{kind}"
        for index in range(4)
        for kind in ("weight", "bias")
    },
    **{
        f"lstm.{name}_l0": f"_model.decoder.rnn.{name}"
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    },
    "output.weight": "_model.decoder.decoder.2.weight",
    "output.bias": "_model.decoder.decoder.2.bias",
}


def load_network() -> SileroNetwork:
    """Silero VAD with its weights, on the CPU.

    Raises:
        ModelError: the package `silero-vad` is not installed, or has another network than version 6.
    """
    network = SileroNetwork()
    package = importlib.util.find_spec("silero_vad")  # does not import it
    try:
        if package is None or not package.submodule_search_locations:
            raise FileNotFoundError("no such package")
        script = Path(package.submodule_search_locations[0], "data", "silero_vad.jit")
        weights = torch.jit.load(script, map_location="cpu").state_dict()
        network.load_state_dict({ours: weights[theirs] for ours, theirs in _THEIR_NAMES.items()})
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        raise ModelError(
            where="package silero-vad",
            rule="it is installed, and carries Silero VAD 6 as TorchScript",
            found=str(error).splitlines()[0],
            do='install it: pip install "silero-vad>=6.2,<7"',
        ) from error
    return network.eval().requires_grad_(False)


@torch.inference_mode()
def speech_probabilities(network: SileroNetwork, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Those of whole clips, which the network hears together: it runs in sequence only within a clip.

    Args:
        network: from `load_network`.
        waveforms: float32 [num_samples] each, mono, 16 kHz, not empty.

    Returns:
        For each clip what `VoiceActivity` gives from its first block to `finish`: float32 [num_chunks].
    """
    counts = [-(-len(waveform) // CHUNK_SAMPLES) for waveform in waveforms]
    heard = network.hear(
        torch.cat([_chunks_of(clip, count) for clip, count in zip(waveforms, counts, strict=True)])
    )
    packed = nn.utils.rnn.pack_sequence(list(heard.split(counts)), enforce_sorted=False)
    outputs, _ = nn.utils.rnn.pad_packed_sequence(network.lstm(packed)[0])  # [num_chunks, num_clips, width]
    return [network.judge(outputs[:count, clip]).numpy() for clip, count in enumerate(counts)]


def _chunks_of(waveform: np.ndarray, num_chunks: int) -> torch.Tensor:
    """The chunks of a clip with their contexts, silence before and behind: [num_chunks, context + chunk]."""
    samples = np.zeros(_CONTEXT_SAMPLES + num_chunks * CHUNK_SAMPLES, dtype=np.float32)
    samples[_CONTEXT_SAMPLES : _CONTEXT_SAMPLES + len(waveform)] = waveform
    return torch.from_numpy(samples).unfold(0, _CONTEXT_SAMPLES + CHUNK_SAMPLES, CHUNK_SAMPLES)


class VoiceActivity:
    """The speech probabilities of one recording, block after block."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._context = np.zeros(_CONTEXT_SAMPLES, dtype=np.float32)
        self._rest = np.zeros(0, dtype=np.float32)
        zeros = torch.zeros(1, 1, _WIDTH)
        self._state = (zeros, zeros)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """The probabilities of the chunks that the next samples complete: float32 [num_chunks]."""
        samples = np.concatenate([self._rest, samples])
        num_chunks = len(samples) // CHUNK_SAMPLES
        self._rest = samples[num_chunks * CHUNK_SAMPLES :]
        return self._probabilities(samples[: num_chunks * CHUNK_SAMPLES])

    def finish(self) -> np.ndarray:
        """That of the last chunk, which the end of the recording cuts off; empty where it does not."""
        if len(self._rest) == 0:
            return np.zeros(0, dtype=np.float32)
        return self(np.zeros(CHUNK_SAMPLES - len(self._rest), dtype=np.float32))

    def _probabilities(self, samples: np.ndarray) -> np.ndarray:
        if len(samples) == 0:
            return np.zeros(0, dtype=np.float32)
        with_context = torch.from_numpy(np.concatenate([self._context, samples]))
        chunks = with_context.unfold(0, _CONTEXT_SAMPLES + CHUNK_SAMPLES, CHUNK_SAMPLES)
        self._context = samples[-_CONTEXT_SAMPLES:]
        with torch.inference_mode():
            probabilities, self._state = self._network(chunks, self._state)
        return probabilities.numpy()
