"""What somebody who has nothing but transformers does with a model; a program for a process of its own.

    python fresh_use.py whisper|e2e SECONDS MODEL [MODEL …]

Prints the ids that each model (a Hub id or a folder) generates for a glide of that length, for both tasks,
and the text of a pipeline.
"""

import json
import sys

import numpy as np
import torch
from transformers import (
    AutoProcessor,
    SpeechEncoderDecoderModel,
    Wav2Vec2FeatureExtractor,
    WhisperForConditionalGeneration,
    pipeline,
)

sys.modules["vietst"] = None  # type: ignore[assignment]  # whoever imports it from here on fails

TASKS = ("transcribe", "translate")


def of_whisper(name: str, audio: np.ndarray) -> list[list[int]]:
    processor = AutoProcessor.from_pretrained(name)
    model, info = WhisperForConditionalGeneration.from_pretrained(name, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    features = processor(audio, sampling_rate=16_000, return_tensors="pt").input_features
    return [
        model.generate(features, language="vi", task=task, max_new_tokens=12, min_new_tokens=4)[0].tolist()
        for task in TASKS
    ]


def of_e2e(name: str, audio: np.ndarray) -> list[list[int]]:
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(name)
    model, info = SpeechEncoderDecoderModel.from_pretrained(name, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    waveform = extractor(audio, sampling_rate=16_000, return_tensors="pt").input_values
    generation = model.generation_config
    prompts = [[generation.decoder_start_token_id, generation.task_to_id[task]] for task in TASKS]
    return [
        model.generate(
            waveform, decoder_input_ids=torch.tensor([prompt]), max_new_tokens=12, min_new_tokens=4
        )[0].tolist()
        for prompt in prompts
    ]


def of_pipeline(name: str, audio: np.ndarray) -> str:
    recognize = pipeline("automatic-speech-recognition", model=name)
    text: str = recognize({"raw": audio, "sampling_rate": 16_000})["text"]
    return text


def main() -> None:
    architecture, seconds, *names = sys.argv[1:]
    time_s = np.arange(int(float(seconds) * 16_000)) / 16_000
    audio = (0.1 * np.sin(2 * np.pi * (150 + 40 * time_s) * time_s)).astype(np.float32)
    generate = {"whisper": of_whisper, "e2e": of_e2e}[architecture]
    print(json.dumps([[*generate(name, audio), of_pipeline(name, audio)] for name in names]))


if __name__ == "__main__":
    main()
