"""Base models that a run makes before it trains: small untrained ones, and E2E models from two parts.

They are made anew where what they are made of has changed. A folder that was not made here — a trained model,
a checkpoint, somebody's data — is used as it is and never replaced.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vietst.config_schema import RunConfig
from vietst.models import nano
from vietst.runtime import get_logger, warn_once

logger = get_logger(__name__)


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


def base_facts(config: RunConfig) -> dict[str, Any]:
    """Where the weights come from that a run starts from, for its record; after `make_base_model`.

    Returns:
        `base_origin`: "untrained" (made here), "hub", or "local" where a part of them was a folder; and
        `base_hub_ids`: the Hub ids that are known of it, for an E2E model those of encoder and decoder.
    """
    from vietst.models import e2e_base_card

    model = config.model
    if model.encoder and model.decoder and (Path(model.name) / e2e_base_card.CARD_NAME).is_file():
        names, made_at = [model.encoder, model.decoder], Path(model.encoder).parent
        is_nano = config.nano_e2e is not None
    else:
        names, made_at, is_nano = [model.name], Path(model.name), config.nano is not None
    if is_nano and (made_at / nano.CARD_NAME).is_file():
        return {"base_origin": "untrained", "base_hub_ids": []}
    hub_ids = [name for name in names if not Path(name).is_dir()]
    return {"base_origin": "hub" if hub_ids == names else "local", "base_hub_ids": hub_ids}


def _make_whisper(config: RunConfig, training_texts: Callable[[], Sequence[str]]) -> list[str]:
    if config.nano is None or _is_not_ours(Path(config.model.name), nano.CARD_NAME):
        return []
    shape = nano.NanoWhisperShape(**config.nano.model_dump())
    made = nano.ensure_nano_whisper(Path(config.model.name), shape, training_texts())
    return [f"an untrained Whisper at {config.model.name}"] if made else []


def _make_e2e(config: RunConfig, training_texts: Callable[[], Sequence[str]]) -> list[str]:
    from vietst.models import e2e_base_card
    from vietst.models.e2e_assembly import AssemblySettings, ensure_e2e_base
    from vietst.models.nano_e2e import NanoE2EShape, ensure_nano_e2e

    model, made = config.model, []
    if model.encoder is None or model.decoder is None:
        return []
    if _is_not_ours(Path(model.name), e2e_base_card.CARD_NAME):
        return []
    folder = Path(model.encoder).parent
    if config.nano_e2e is not None and not _is_not_ours(folder, nano.CARD_NAME):
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


def _is_not_ours(folder: Path, card_name: str) -> bool:
    """Whether something lies there that was not made by this module."""
    if not folder.is_dir() or not any(folder.iterdir()) or (folder / card_name).is_file():
        return False
    warn_once(logger, "%s was there already and was not made here: it is used as it is", folder)
    return True
