"""The record of a run as it is published: what was trained on what, without where it lay on this machine."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from vietst.errors import HubError

RUN_FACTS: Final = "run_facts.json"
RESOLVED_CONFIG: Final = "resolved_config.yaml"
ENVIRONMENT: Final = "environment.json"
TRAINER_STATE: Final = "trainer_state.json"
TRAIN_RESULTS: Final = "train_results.json"

PUBLISHED_RECORD: Final = (RUN_FACTS, RESOLVED_CONFIG, ENVIRONMENT)
"""What is published; the names are those of the run folder."""

RECORD_FILES: Final = (*PUBLISHED_RECORD, TRAINER_STATE, TRAIN_RESULTS)
"""What a run folder records. The last two are for the model card, and stay at home."""

_LOCAL_SECTIONS: Final = ("paths", "output", "hub", "dataloader")
"""Of the configuration: they say where things lie, and nothing about the model."""

_PLACES: Final = ("path", "_dir", "_root")
"""Ends of keys whose values are paths."""

_MODEL_NAMES: Final = ("name", "encoder", "decoder")
"""Keys of the section `model` that may be folders."""


def write_published_record(sources: Mapping[str, Path], folder: Path) -> None:
    """Write what there is of the record.

    Args:
        sources: name → file of the run's own record.

    Raises:
        HubError: one of them cannot be read.
    """
    facts = read_record(sources.get(RUN_FACTS))
    if facts:
        hub_ids = known_hub_ids(facts)
        facts["base_model"] = _shown_name(facts["base_model"], hub_ids)
        _write(folder / RUN_FACTS, json.dumps(facts, indent=2, ensure_ascii=False))
    if ENVIRONMENT in sources:
        _write(folder / ENVIRONMENT, json.dumps(read_record(sources[ENVIRONMENT]), indent=2))
    if RESOLVED_CONFIG in sources:
        config = read_record(sources[RESOLVED_CONFIG])
        config = {section: values for section, values in config.items() if section not in _LOCAL_SECTIONS}
        for key in _MODEL_NAMES:
            if config["model"].get(key) is not None:
                config["model"][key] = _shown_name(config["model"][key], known_hub_ids(facts))
        config = _without_places(config)
        _write(folder / RESOLVED_CONFIG, yaml.safe_dump(config, allow_unicode=True, sort_keys=False))


def find_record(model_dir: Path, name: str) -> Path | None:
    """A file of the run's record: in the model folder, or for a checkpoint also in its run folder."""
    is_checkpoint = (model_dir / "run_record.json").is_file()
    folders = (model_dir, model_dir.parent) if is_checkpoint and name != TRAIN_RESULTS else (model_dir,)
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def known_hub_ids(facts: Mapping[str, Any]) -> list[str]:
    """Base models of a run that the Hub knows by these names; of older runs none is known."""
    return list(facts.get("base_hub_ids", []))


def read_record(path: Path | None) -> dict[str, Any]:
    """A record from its JSON or YAML file; empty where there is none.

    Raises:
        HubError: it cannot be read.
    """
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _unreadable(path, str(error)) from None
    if not isinstance(content, dict):
        raise _unreadable(path, type(content).__name__)
    return content


def _unreadable(path: Path, found: str) -> HubError:
    return HubError(
        where=str(path),
        rule="a record as it was written, JSON or YAML",
        found=found,
        do="restore the file from the run, or delete it: the card then says that this is not recorded",
    )


def _without_places(value: Any) -> Any:
    """Without keys that hold paths, as those of `evaluation.extra_sets`."""
    if not isinstance(value, dict):
        return value
    return {key: _without_places(item) for key, item in value.items() if not key.endswith(_PLACES)}


def _shown_name(name: str, hub_ids: list[str]) -> str:
    """A Hub id as it is; of a folder its last part."""
    return name if name in hub_ids else Path(name).name


def _write(path: Path, text: str) -> None:
    path.write_text(text.rstrip() + "\n", encoding="utf-8", newline="\n")
