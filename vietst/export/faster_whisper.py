"""A Whisper that was trained here, for faster-whisper: CTranslate2's weights and the files beside them.

The weights are read by our own loader (safetensors, or a .bin with `weights_only`; nothing of a repository is
executed) and handed to CTranslate2's converter. What faster-whisper would run, but wrongly, is refused.
"""

import json
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from transformers import SpeechEncoderDecoderConfig, WhisperConfig, WhisperProcessor

from vietst import __version__
from vietst.data.features import InputKind, input_kind_of, log_mel_kind
from vietst.errors import ModelError, VietstError
from vietst.models import whisper, whisper_inputs
from vietst.models.loading import require_model_type
from vietst.models.made_folders import made_folder

CARD_NAME: Final = "vietst_export.json"

MULTILINGUAL_VOCABULARY: Final = 51_865
"""faster-whisper takes a Whisper with fewer tokens for an English-only one, and gives it no task."""


def export_for_faster_whisper(name_or_path: str, output: Path, quantization: str) -> None:
    """Convert a run folder, model folder or Hub id.

    Args:
        output: folder to write; an export that was made here before is replaced.
        quantization: how the weights are stored, as CTranslate2 names it: float32, int8_float16 …

    Raises:
        ModelError: nothing usable there, or a model that faster-whisper cannot run.
        VietstError: CTranslate2 is not installed.
    """
    require_packages()
    processor = load_convertible(name_or_path)
    model = whisper.load_model(name_or_path)
    with made_folder(output, CARD_NAME, "name another folder for the export") as building:
        _convert(name_or_path, model, processor.tokenizer, building, quantization)
        # By these names and at this place faster-whisper finds them; our own folders keep the extractor's
        # settings in processor_config.json.
        processor.feature_extractor.save_pretrained(building)
        processor.tokenizer.backend_tokenizer.save(str(building / "tokenizer.json"))
        card = {
            "vietst_version": __version__,
            "ctranslate2_version": metadata.version("ctranslate2"),
            "quantization": quantization,
        }
        (building / CARD_NAME).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8", newline="\n")


def require_packages() -> None:
    """Say which extra brings the packages.

    Raises:
        VietstError: they are not there.
    """
    try:
        import ctranslate2  # noqa: F401
        import faster_whisper  # noqa: F401
    except ImportError as error:
        raise VietstError(
            where="export",
            rule="the packages ctranslate2 and faster-whisper are installed",
            found=str(error),
            do='pip install -e ".[export]" -c constraints.txt',
        ) from error


def load_convertible(name_or_path: str) -> WhisperProcessor:
    """The processor of a model that faster-whisper can run.

    Raises:
        ModelError: it is another kind of model, or one that faster-whisper would run wrongly.
    """
    _refuse_e2e(name_or_path)
    processor = whisper_inputs.load_processor(name_or_path)
    input_kind: InputKind = input_kind_of(processor.feature_extractor)
    if input_kind.name != log_mel_kind(input_kind.num_mel_bins).name:
        raise _refusal(
            name_or_path,
            "a window of 30 s and a frame every 10 ms: faster-whisper knows no other",
            f"{input_kind.window_s:g} s and {input_kind.hop_length_samples / 16:g} ms ({input_kind.name})",
        )
    if len(processor.tokenizer) < MULTILINGUAL_VOCABULARY:
        raise _refusal(
            name_or_path,
            f"at least {MULTILINGUAL_VOCABULARY:,} tokens, as the multilingual Whispers have: faster-whisper "
            "takes a model with fewer for an English-only one, and tells it neither language nor task",
            f"{len(processor.tokenizer):,} tokens",
        )
    return processor


def _refuse_e2e(name_or_path: str) -> None:
    try:
        require_model_type(name_or_path, WhisperConfig.model_type)
    except ModelError as error:
        if SpeechEncoderDecoderConfig.model_type not in error.found:
            raise
        raise _refusal(
            name_or_path,
            "a Whisper: CTranslate2 has no model of a wav2vec2 encoder with an mBART decoder",
            "an E2E model",
        ) from error


def _refusal(name_or_path: str, rule: str, found: str) -> ModelError:
    return ModelError(
        where=f"model {name_or_path}",
        rule=rule,
        found=found,
        do="use it as it is (transformers, scripts/transcribe.py), or train one from openai/whisper-…",
    )


def _convert(name: str, model: Any, tokenizer: Any, output: Path, quantization: str) -> None:
    from ctranslate2.converters import TransformersConverter

    class LoadedConverter(TransformersConverter):
        """Takes what is loaded already, where the library would load by itself."""

        def load_model(self, *_arguments: Any, **_options: Any) -> Any:
            return model

        def load_tokenizer(self, *_arguments: Any, **_options: Any) -> Any:
            return tokenizer

    LoadedConverter(name).convert(str(output), quantization=quantization, force=True)
