"""Load a run configuration: shipped or own YAML files, inheritance, command-line overrides, validation.

Keys and their meaning: `vietst.config_schema`. A file holds only what differs from its `_base_`. YAML is read
safely, `1e-4` is a number, and `${…}` is refused, so that a file means the same on every machine.
"""

import difflib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Final

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from vietst.config_rules import Problem, accumulation_steps, rule_problems
from vietst.config_schema import RunConfig
from vietst.errors import ConfigError

__all__ = ["LoadedConfig", "accumulation_steps", "load_config", "shipped_config_names"]

SHIPPED_DIR: Final = Path(__file__).with_name("configs")
BASE_KEY: Final = "_base_"
COMMAND_LINE: Final = "command line"
DEFAULT: Final = "default"
_DERIVED: Final = "from the config's name"
_ALIASES: Final = {"training.freeze_encoder": "model.freeze_encoder"}
"""Second names of keys; the guide uses both."""


@dataclass(frozen=True)
class LoadedConfig:
    """A validated configuration and where each of its values comes from."""

    name: str
    """Name of the config: the file's name without its ending."""

    config: RunConfig
    origins: dict[str, str]
    """`section.key` → the file as it was named, "command line" or "default"."""

    def value(self, key: str) -> Any:
        """The value of `section.key`, as plain data (paths as text)."""
        return _flatten(self.config.model_dump(mode="json"))[key]

    def describe(self) -> str:
        """All values as YAML, each with its origin as a comment. Loading the text gives the same config."""
        lines: list[tuple[str, str]] = []
        for section, values in self.config.model_dump(mode="json").items():
            if values is None:
                lines.append((f"{section}: null", self.origins[section]))
                continue
            lines.append((f"{section}:", ""))
            for key, value in values.items():
                lines.append((f"  {key}: {_as_yaml(value)}", self.origins[f"{section}.{key}"]))
        width = min(60, max(len(line) for line, _ in lines))
        # Without folders: the text is published with the model.
        return "".join(
            f"{line:<{width}}  # {PurePath(origin).name}\n" if origin else f"{line}\n"
            for line, origin in lines
        )


@dataclass
class _Layer:
    """One source of values: a file, or the command line."""

    origin: str
    values: dict[str, Any]
    """Nested, as read; without `_base_`."""

    problems: list[Problem] = field(default_factory=list)


def shipped_config_names() -> list[str]:
    """Names that `load_config` knows without a path."""
    return sorted(path.stem for path in SHIPPED_DIR.glob("*.yaml"))


def load_config(name_or_path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> LoadedConfig:
    """Load a configuration, its bases, and overrides of the form `section.key=value`.

    Args:
        name_or_path: a shipped name ("dev_whisper"), or a YAML file.
        overrides: values are read as YAML reads them; `null` unsets. The last one wins.

    Raises:
        ConfigError: with all faults of all files and overrides together.
    """
    asked_for = os.fspath(name_or_path)
    path = _find(asked_for, beside=None, asked_by="--config")
    name = path.stem
    layers = [*_file_layers(path, asked_for), _command_line_layer(overrides)]
    for layer in layers:
        _check_keys(layer)
        _merge_aliases(layer)
    tree, origins = _merge(layers)
    _fill_output(tree, origins, name)
    config, problems = _validate(tree)
    found = [f"{layer.origin}: {_sentence(problem)}" for layer in layers for problem in layer.problems]
    found += [f"{_origin(problem, origins)}: {_sentence(problem)}" for problem in problems]
    if config is None or found:
        raise _config_error(asked_for, found)
    keys = _flatten(config.model_dump(mode="json"))
    return LoadedConfig(name, config, {key: origins.get(key, DEFAULT) for key in keys})


# --- reading -----------------------------------------------------------------------------------------


def _find(name: str, *, beside: Path | None, asked_by: str) -> Path:
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


def _file_layers(path: Path, origin: str) -> list[_Layer]:
    """The file's chain of bases, the farthest first, then the file itself."""
    layers: list[_Layer] = []
    chain: list[Path] = []
    while True:
        resolved = path.resolve()
        if resolved in chain:
            names = " → ".join(file.name for file in [*chain, resolved])
            raise ConfigError(
                where=f"{origin}: {BASE_KEY}",
                rule="a file does not inherit from itself",
                found=names,
                do=f"take {BASE_KEY} out of one of them",
            )
        chain.append(resolved)
        shipped = resolved.parent == SHIPPED_DIR.resolve()
        layer = _Layer(resolved.name if shipped else origin, _read_yaml(path, origin))
        base = layer.values.pop(BASE_KEY, None)
        layers.insert(0, layer)
        if base is None:
            return layers
        if not isinstance(base, str):
            layer.problems.append(Problem(BASE_KEY, repr(base), "one name or file"))
            return layers
        path = _find(base, beside=path.parent, asked_by=f"{origin}: {BASE_KEY}:")
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


def _command_line_layer(overrides: Sequence[str]) -> _Layer:
    layer = _Layer(COMMAND_LINE, {})
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


def _check_keys(layer: _Layer) -> None:
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
    layer: _Layer, section: str, values: dict[Any, Any], known: dict[str, list[str]]
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


def _merge_aliases(layer: _Layer) -> None:
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


# --- merging and validating --------------------------------------------------------------------------


def _merge(layers: Sequence[_Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Later layers win, key by key. Returns the tree and the origin of each of its values."""
    tree: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for section, values in layer.values.items():
            if values is None:
                tree[section] = None
                origins = {
                    key: origin for key, origin in origins.items() if not key.startswith(f"{section}.")
                }
                origins[section] = layer.origin
                continue
            if tree.get(section) is None:
                tree[section] = {}
                origins.pop(section, None)
            tree[section].update(values)
            origins.update({f"{section}.{key}": layer.origin for key in values})
    return tree, origins


def _fill_output(tree: dict[str, Any], origins: dict[str, str], name: str) -> None:
    """Name the run after its config, unless a file says otherwise.

    A file that inherits from another one thereby gets a run folder of its own.
    """
    output = tree.setdefault("output", {})
    output_dir = tree.get("paths", {}).get("output_dir") or RunConfig.model_fields["paths"].default.output_dir
    for key, value in {"dir": str(Path(str(output_dir)) / name), "experiment_name": name}.items():
        if output.get(key) is None:
            output[key] = value
            origins[f"output.{key}"] = _DERIVED


def _validate(tree: dict[str, Any]) -> tuple[RunConfig | None, list[Problem]]:
    """The config, or all its problems: wrong values first, then broken rules about the values that are right."""
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        problems = [_as_problem(details) for details in error.errors(include_url=False)]
    else:
        problems = rule_problems(config)
        return (None if problems else config), problems
    wrong = {problem.key for problem in problems}
    usable = {
        section: values
        if values is None
        else {k: v for k, v in values.items() if f"{section}.{k}" not in wrong}
        for section, values in tree.items()
    }
    if any(key.startswith("nano") for key in wrong):  # its keys have no defaults to put in place
        usable["nano"] = None
    usable["output"] = {"dir": "unused", "experiment_name": "unused"}
    return None, problems + rule_problems(RunConfig.model_validate(usable), wrong)


def _as_problem(details: Any) -> Problem:
    location = [str(part) for part in details["loc"]]
    missing = details["type"] == "missing"
    found = "nothing" if missing else repr(details["input"])
    return Problem(".".join(location[:2]), found, "required" if missing else details["msg"])


def _origin(problem: Problem, origins: dict[str, str]) -> str:
    """Where the user can mend it: the first of the keys that somebody set."""
    set_by = [origins[key] for key in (problem.key, *problem.other_keys) if key in origins]
    return set_by[0] if set_by else DEFAULT


def _sentence(problem: Problem) -> str:
    return f"{problem.key}: {problem.found} ({problem.rule})"


def _config_error(asked_for: str, found: Sequence[str]) -> ConfigError:
    return ConfigError(
        where=f"configuration {asked_for}",
        rule="every key is known, and its value fits",
        found="".join(f"\n    {sentence}" for sentence in found).lstrip()
        if len(found) == 1
        else f"{len(found)} problems" + "".join(f"\n    {sentence}" for sentence in found),
        do="correct it there; vietst/config_schema.py says what each key means",
    )


def _as_yaml(value: Any) -> str:
    """A plain value as any YAML 1.1 reader understands it. JSON is YAML, but for `1e-05`: that would be text."""
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        return mantissa if not e else f"{mantissa if '.' in mantissa else mantissa + '.0'}e{exponent}"
    return json.dumps(value, ensure_ascii=False)


def _flatten(tree: dict[str, Any]) -> dict[str, Any]:
    """`section.key` → value; a section that is absent (null) stands under its own name."""
    flat: dict[str, Any] = {}
    for section, values in tree.items():
        if isinstance(values, dict):
            flat.update({f"{section}.{key}": value for key, value in values.items()})
        else:
            flat[section] = values
    return flat
