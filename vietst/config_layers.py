"""Where the values of a configuration come from: a chain of YAML files, then the command line.

Each source becomes a `Layer` of known keys; what cannot be used is noted as a problem of that layer, with the
nearest known key, so that all faults can be reported together.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Final

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vietst.config_rules import Problem
from vietst.config_schema import RunConfig
from vietst.errors import ConfigError

SHIPPED_DIR: Final = Path(__file__).with_name("configs")
COMMAND_LINE: Final = "command line"
_BASE_KEY: Final = "_base_"
_ALIASES: Final = {"training.freeze_encoder": "model.freeze_encoder"}
"""Second names of keys; the guide uses both."""


@dataclass
class Layer:
    """One source of values: a file, or the command line."""

    origin: str
    values: dict[str, Any]
    """Nested, as read; without `_base_`."""

    problems: list[Problem] = field(default_factory=list)


def shipped_config_names() -> list[str]:
    """Names that `load_config` knows without a path."""
    return sorted(path.stem for path in SHIPPED_DIR.glob("*.yaml"))


def read_layers(path: Path, asked_for: str, overrides: Sequence[str]) -> list[Layer]:
    """The file's chain of bases, the farthest first, then the file itself, then the command line.

    Raises:
        ConfigError: a file that is missing, no YAML, or inherits from itself.
    """
    layers = [*_file_layers(path, asked_for), _command_line_layer(overrides)]
    for layer in layers:
        _check_keys(layer)
        _merge_aliases(layer)
    return layers


# --- reading -----------------------------------------------------------------------------------------


def find_config_file(name: str, *, beside: Path | None, asked_by: str) -> Path:
    """The file that a `--config` or `_base_` means: relative to `beside` (or here), else a shipped name."""
    shipped = SHIPPED_DIR / f"{name.removesuffix('.yaml')}.yaml"
    is_bare_name = PurePath(name).suffix == "" and name == PurePath(name).name
    file = Path(name) if beside is None else beside / name
    candidates = [shipped, file] if is_bare_name else [file, shipped]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = shipped_config_names()
    nearest = difflib.get_close_matches(PurePath(name).stem, names, n=1)
    raise ConfigError(
        where=f"{asked_by} {name}",
        rule="the name of a shipped config, or a YAML file",
        found=f"no file {file}, and no shipped config of that name",
        do=f"use one of {', '.join(names)}" + (f" (did you mean {nearest[0]}?)" if nearest else ""),
    )


def _file_layers(path: Path, origin: str) -> list[Layer]:
    """The file's chain of bases, the farthest first, then the file itself."""
    layers: list[Layer] = []
    chain: list[Path] = []
    while True:
        resolved = path.resolve()
        if resolved in chain:
            names = " → ".join(file.name for file in [*chain, resolved])
            raise ConfigError(
                where=f"{origin}: {_BASE_KEY}",
                rule="a file does not inherit from itself",
                found=names,
                do=f"take {_BASE_KEY} out of one of them",
            )
        chain.append(resolved)
        shipped = resolved.parent == SHIPPED_DIR.resolve()
        layer = Layer(resolved.name if shipped else origin, _read_yaml(path, origin))
        base = layer.values.pop(_BASE_KEY, None)
        layers.insert(0, layer)
        if base is None:
            return layers
        if not isinstance(base, str):
            layer.problems.append(Problem(_BASE_KEY, repr(base), "one name or file"))
            return layers
        path = find_config_file(base, beside=path.parent, asked_by=f"{origin}: {_BASE_KEY}:")
        origin = str(path)


def _read_yaml(path: Path, origin: str) -> dict[str, Any]:
    try:
        loaded = OmegaConf.create(path.read_text(encoding="utf-8-sig"))
        values = OmegaConf.to_container(loaded, resolve=False)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(
            where=origin,
            rule="a YAML file in UTF-8, each key once",
            found=" ".join(str(error).split()),
            do="correct the file; vietst/configs/base.yaml shows the form",
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(
            where=origin,
            rule="a YAML mapping of sections",
            found=f"a {type(values).__name__}",
            do="write sections with keys, as vietst/configs/base.yaml does",
        )
    return {str(key): value for key, value in values.items()}


def _command_line_layer(overrides: Sequence[str]) -> Layer:
    layer = Layer(COMMAND_LINE, {})
    usable = []
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or key.count(".") != 1 or not all(key.split(".")):
            layer.problems.append(
                Problem(override, "no section.key=value", "overrides have the form section.key=value")
            )
        else:
            usable.append(override)
    for override in usable:
        try:
            parsed = OmegaConf.to_container(OmegaConf.from_dotlist([override]), resolve=False)
        except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
            layer.problems.append(
                Problem(override, " ".join(str(error).split()), "a value as YAML writes it")
            )
            continue
        assert isinstance(parsed, dict)
        for section, values in parsed.items():
            layer.values.setdefault(str(section), {}).update(values)
    return layer


# --- keys --------------------------------------------------------------------------------------------


def _known_keys() -> dict[str, list[str]]:
    """Keys of each section of the schema."""
    return {section: list(_section_model(section).model_fields) for section in RunConfig.model_fields}


def _section_model(section: str) -> Any:
    annotation = RunConfig.model_fields[section].annotation
    # `NanoSection | None` is a union; the others are the model itself.
    return getattr(annotation, "__args__", (annotation,))[0]


def _check_keys(layer: Layer) -> None:
    """Move what is unknown, or no section, from the layer's values to its problems."""
    known = _known_keys()
    for section in list(layer.values):
        values = layer.values[section]
        if section not in known:
            del layer.values[section]
            suggestion = _nearest_section_or_key(section, known)
            layer.problems.append(Problem(section, "an unknown section", suggestion))
        elif values is None:
            # A heading whose keys are all commented out; for nano, null takes the section away again.
            if section != "nano":
                del layer.values[section]
        elif not isinstance(values, dict):
            del layer.values[section]
            layer.problems.append(Problem(section, f"{values!r}", "a section with keys below it"))
        else:
            layer.values[section] = _checked_section(layer, section, values, known)


def _checked_section(
    layer: Layer, section: str, values: dict[Any, Any], known: dict[str, list[str]]
) -> dict[str, Any]:
    kept = {}
    for key, value in values.items():
        full_key = f"{section}.{key}"
        if key not in known[section] and full_key not in _ALIASES:
            layer.problems.append(Problem(full_key, "an unknown key", _nearest_key(section, str(key), known)))
        elif _has_interpolation(value):
            layer.problems.append(Problem(full_key, repr(value), "plain values: ${…} is not supported"))
        else:
            kept[str(key)] = value
    return kept


def _has_interpolation(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_interpolation, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and "${" in value


def _nearest_section_or_key(name: str, known: dict[str, list[str]]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    homes = [f"{section}.{name}" for section, keys in known.items() if name in keys]
    if nearest or homes:
        return f"did you mean {' or '.join(nearest or homes)}?"
    return f"sections are {', '.join(known)}"


def _nearest_key(section: str, key: str, known: dict[str, list[str]]) -> str:
    homes = [f"{other}.{key}" for other, keys in known.items() if key in keys]
    nearest = [
        f"{section}.{match}" for match in difflib.get_close_matches(key, known[section], n=1, cutoff=0.0)
    ]
    return f"did you mean {' or '.join(homes or nearest)}?"


def _merge_aliases(layer: Layer) -> None:
    """Give keys their first name. Within one layer, both names may stand only with the same value."""
    for alias, key in _ALIASES.items():
        (alias_section, alias_key), (section, first_key) = alias.split("."), key.split(".")
        aliases = layer.values.get(alias_section)
        if not aliases or alias_key not in aliases:
            continue
        value = aliases.pop(alias_key)
        target = layer.values.setdefault(section, {})
        if target.setdefault(first_key, value) != value:
            found = f"{value!r}, with {key} {target[first_key]!r}"
            layer.problems.append(Problem(alias, found, f"the same key as {key}: state it once"))
