"""Load a run configuration: shipped or own YAML files, inheritance, command-line overrides, validation.

Keys and their meaning: `vietst.config_schema`. A file holds only what differs from its `_base_`. YAML is read
safely, `1e-4` is a number, and `${…}` is refused, so that a file means the same on every machine.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from pydantic import ValidationError

from vietst.config_layers import Layer, find_config_file, read_layers, shipped_config_names
from vietst.config_rules import Problem, accumulation_steps, rule_problems
from vietst.config_schema import RunConfig
from vietst.errors import ConfigError

__all__ = ["LoadedConfig", "accumulation_steps", "load_config", "shipped_config_names"]

DEFAULT: Final = "default"
_DERIVED: Final = "from the config's name"


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


def load_config(name_or_path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> LoadedConfig:
    """Load a configuration, its bases, and overrides of the form `section.key=value`.

    Args:
        name_or_path: a shipped name ("dev_whisper"), or a YAML file.
        overrides: values are read as YAML reads them; `null` unsets. The last one wins.

    Raises:
        ConfigError: with all faults of all files and overrides together.
    """
    asked_for = os.fspath(name_or_path)
    path = find_config_file(asked_for, beside=None, asked_by="--config")
    name = path.stem
    layers = read_layers(path, asked_for, overrides)
    tree, origins = _merge(layers)
    _fill_output(tree, origins, name)
    config, problems = _validate(tree)
    found = [f"{layer.origin}: {_sentence(problem)}" for layer in layers for problem in layer.problems]
    sources = [layer.origin for layer in layers]
    found += [f"{_source_to_mend(problem, origins, sources)}: {_sentence(problem)}" for problem in problems]
    if config is None or found:
        raise _config_error(asked_for, found)
    keys = _flatten(config.model_dump(mode="json"))
    return LoadedConfig(name, config, {key: origins.get(key, DEFAULT) for key in keys})


# --- merging and validating --------------------------------------------------------------------------


def _merge(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
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
    """The config, or all its problems: wrong values, and broken rules about the values that are right."""
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
    section, key, *inside = details["loc"]
    full_key, below = f"{section}.{key}", ".".join(map(str, inside))
    if details["type"] == "extra_forbidden":
        return Problem(full_key, f"{below}, an unknown key", "keys as vietst/config_schema.py has them")
    if details["type"] == "missing" and inside and isinstance(inside[-1], str):
        return Problem(full_key, f"no {below}", "required")
    if details["type"] == "missing":
        return Problem(full_key, f"{len(details['input'])} values" if inside else "nothing", "required")
    found = f"{below}: {_as_yaml(details['input'])}" if below else _as_yaml(details["input"])
    return Problem(full_key, found, details["msg"])


def _source_to_mend(problem: Problem, origins: dict[str, str], sources: Sequence[str]) -> str:
    """The last source that set one of the problem's keys, or else one of its section's."""
    section = problem.key.partition(".")[0]
    for keys in (
        (problem.key, *problem.other_keys),
        [key for key in origins if key.startswith(f"{section}.")],
    ):
        set_by = [origins[key] for key in keys if origins.get(key) in sources]
        if set_by:
            return max(set_by, key=sources.index)
    return DEFAULT


def _sentence(problem: Problem) -> str:
    return f"{problem.key}: {problem.found} ({problem.rule})"


def _config_error(asked_for: str, found: Sequence[str]) -> ConfigError:
    return ConfigError(
        where=f"configuration {asked_for}",
        rule="every key is known, and its value fits",
        found="\n    ".join(found if len(found) == 1 else [f"{len(found)} problems", *found]),
        do="correct it there; vietst/config_schema.py says what each key means",
    )


def _as_yaml(value: Any) -> str:
    """A plain value as any YAML 1.1 reader understands it: JSON, but for `1e-05`, which would be text."""
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        return mantissa if not e else f"{mantissa if '.' in mantissa else mantissa + '.0'}e{exponent}"
    return json.dumps(value, ensure_ascii=False, default=str)


def _flatten(tree: dict[str, Any]) -> dict[str, Any]:
    """`section.key` → value; a section that is absent (null) stands under its own name."""
    flat: dict[str, Any] = {}
    for section, values in tree.items():
        if isinstance(values, dict):
            flat.update({f"{section}.{key}": value for key, value in values.items()})
        else:
            flat[section] = values
    return flat
