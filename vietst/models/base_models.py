"""Base models that a run makes before it trains: small untrained ones, and E2E models from two parts."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vietst.config_schema import RunConfig
from vietst.models.nano import NanoWhisperShape, ensure_nano_whisper


def make_base_model(config: RunConfig, training_texts: Callable[[], Sequence[str]]) -> list[str]:
    """Make what the configuration says is made, where it is not there yet.

    Args:
        training_texts: called only where a tokenizer depends on them.

    Returns:
        What was made now, in words; empty when everything was there, or comes from elsewhere.

    Raises:
        ModelError: an encoder or decoder that cannot be used.
    """
    return (
        _make_e2e(config, training_texts)
        if config.model.type == "e2e"
        else _make_whisper(config, training_texts)
    )


def _make_whisper(config: RunConfig, training_texts: Callable[[], Sequence[str]]) -> list[str]:
    if config.nano is None:
        return []
    shape = NanoWhisperShape(**config.nano.model_dump())
    made = ensure_nano_whisper(Path(config.model.name), shape, training_texts())
    return [f"an untrained Whisper at {config.model.name}"] if made else []


def _make_e2e(config: RunConfig, training_texts: Callable[[], Sequence[str]]) -> list[str]:
    from vietst.models.e2e_assembly import AssemblySettings, ensure_e2e_base
    from vietst.models.nano_e2e import NanoE2EShape, ensure_nano_e2e

    model, made = config.model, []
    if model.encoder is None or model.decoder is None:
        return []
    if config.nano_e2e is not None:
        folder = Path(model.encoder).parent
        shape = NanoE2EShape(**config.nano_e2e.model_dump())
        if ensure_nano_e2e(folder, shape, training_texts()):
            made.append(f"an untrained encoder and decoder at {folder}")
    settings = AssemblySettings(
        language=model.language, length_adaptor=model.length_adaptor, seed=config.training.seed
    )
    texts = training_texts() if model.trim_vocabulary else None
    if ensure_e2e_base(Path(model.name), model.encoder, model.decoder, settings, texts):
        made.append(f"an E2E model of {model.encoder} and {model.decoder} at {model.name}")
    return made
