"""Physical constants and shared words, each stated once, with its unit."""

from typing import Final

SAMPLE_RATE_HZ: Final = 16_000
"""Every model here listens to mono audio at this rate."""

IGNORE_INDEX: Final = -100
"""Label value that cross-entropy skips: decoder prompt and padding (PyTorch's default `ignore_index`)."""

TRANSCRIBE: Final = "transcribe"
"""Write down what was said, code-switched (ASR)."""

TRANSLATE: Final = "translate"
"""Say in Vietnamese what was said (ST). Whisper was pretrained to translate into English under this name."""

TASKS: Final = (TRANSCRIBE, TRANSLATE)
"""The order matters: `task_index` in a batch is a position in this tuple."""

BOTH: Final = "both"
"""All of `TASKS`, where one task may be named."""

TARGET_COLUMN: Final = {TRANSCRIBE: "transcript", TRANSLATE: "translation"}
"""Which manifest column holds the target text of a task."""

SPLITS: Final = ("train", "dev", "test")
