"""The Hub's rules for a model card, checked without the Hub.

By its metadata the Hub finds, lists and links a model; what breaks a rule is refused when it is pushed, or
silently left out of the lists. Sources: https://huggingface.co/docs/hub/model-cards and the specification
`modelcard.md` in huggingface/hub-docs.
"""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from vietst.errors import HubError
from vietst.hub.hub_lists import OTHER, license_terms, names
from vietst.hub.private_text import local_places, tokens

MAX_BYTES: Final = 10 * 1000**2
"""From here on the Hub takes files by LFS only, and shows no card that is stored so."""

_BLOCK: Final = re.compile(r"\A---\n(.*?\n)---\n(.*)\Z", re.DOTALL)
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
_DATASET_ID: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)?")

SPECIAL_LANGUAGES: Final = ("code", "multilingual")
"""What the Hub takes for a language besides ISO codes."""


class _StrictLoader(yaml.SafeLoader):
    """Refuses keys that stand twice, of which the Hub's reader would be confused and ours take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} stands there twice")
        return super().construct_mapping(node, deep)


def check_card(path: Path) -> list[str]:
    """What is wrong with a model card, in words; empty where the Hub will list it rightly.

    Args:
        path: README.md; files that it links to lie beside it.
    """
    data = path.read_bytes()
    if len(data) > MAX_BYTES:
        return [f"{len(data) / 1e6:.1f} MB; the Hub shows cards of up to {MAX_BYTES / 1e6:.0f} MB"]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return [f"not UTF-8: {error.reason}"]
    problems = [f"a local place: {place}" for place in local_places(text)]
    problems += [f"a token: {token}" for token in tokens(text)]
    block = _BLOCK.match(text)
    if block is None:
        return [*problems, "no metadata: the card begins with a YAML block between two lines ---"]
    problems += _broken_links(block.group(2), path.parent)
    try:
        metadata = yaml.load(block.group(1), _StrictLoader)
    except yaml.YAMLError as error:
        return [*problems, f"metadata that are no YAML: {' '.join(str(error).split())}"]
    if not isinstance(metadata, dict):
        return [*problems, f"metadata that are {type(metadata).__name__}, not keys with values"]
    problems += _not_json("", metadata)
    for rule in _RULES:
        problems += rule(metadata)
    return problems


def require_valid_card(path: Path) -> None:
    """Refuse a card that breaks a rule.

    Raises:
        HubError: all that `check_card` finds.
    """
    problems = check_card(path)
    if problems:
        raise HubError(
            where=f"model card {path}",
            rule="metadata as the Hub takes them, and nothing about this machine",
            found="; ".join(problems),
            do="correct the section hub of the configuration, or the card",
        )


# --- the rules ----------------------------------------------------------------------------------------------


def _languages(metadata: dict[str, Any]) -> Iterator[str]:
    for language in _texts(metadata, "language"):
        if not is_language(language):
            yield f"language {language}: no ISO 639 code of two or three letters"


def is_language(code: str) -> bool:
    """Whether the Hub takes it for a language: a code of ISO 639-1, -2, -3, or one of `SPECIAL_LANGUAGES`."""
    from langcodes import tag_is_valid

    if code in SPECIAL_LANGUAGES:
        return True
    is_for_private_use = re.fullmatch("q[a-t][a-z]", code)
    return bool(re.fullmatch("[a-z]{2,3}", code)) and not is_for_private_use and tag_is_valid(code)


def _license(metadata: dict[str, Any]) -> Iterator[str]:
    for license in _texts(metadata, "license"):
        if license not in license_terms():
            yield f"license {license}: not in the Hub's list"
        if license == OTHER and not (metadata.get("license_name") and metadata.get("license_link")):
            yield f"license {OTHER}: needs license_name and license_link"


def _one_of(key: str, kind: str) -> Callable[[dict[str, Any]], Iterator[str]]:
    def rule(metadata: dict[str, Any]) -> Iterator[str]:
        for value in _texts(metadata, key):
            if value not in names(kind):
                yield f"{key} {value}: not among the Hub's {kind.replace('_', ' ')}"

    return rule


def _base_models(metadata: dict[str, Any]) -> Iterator[str]:
    for name in _texts(metadata, "base_model"):
        if not is_hub_id(name):
            yield f"base_model {name}: no Hub id OWNER/NAME"


def is_hub_id(name: str) -> bool:
    """Whether a name has the form OWNER/NAME of a repository on the Hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return _HUB_ID.fullmatch(name) is not None


def _datasets(metadata: dict[str, Any]) -> Iterator[str]:
    for name in _texts(metadata, "datasets"):
        if not _DATASET_ID.fullmatch(name):
            yield f"datasets {name}: no id of a dataset on the Hub"


def _tags(metadata: dict[str, Any]) -> Iterator[str]:
    for tag in _texts(metadata, "tags"):
        if not tag.strip():
            yield "tags: an empty one"


def _texts(metadata: dict[str, Any], key: str) -> list[str]:
    """A text or a list of texts, as a list; what is neither is found by `_kinds`."""
    value = metadata.get(key)
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]


_TEXT: Final = ("license", "license_name", "license_link", "library_name", "pipeline_tag")
_TEXTS: Final = ("language", "tags", "datasets", "metrics", "base_model")


def _kinds(metadata: dict[str, Any]) -> Iterator[str]:
    for key in _TEXT:
        if key in metadata and not isinstance(metadata[key], str):
            yield f"{key}: a text is expected, not {metadata[key]!r}"
    for key in _TEXTS:
        value = metadata.get(key, "")
        items = value if isinstance(value, list) else [value]
        yield from (f"{key}: a text is expected, not {item!r}" for item in items if not isinstance(item, str))


def _model_index(metadata: dict[str, Any]) -> Iterator[str]:
    if "model-index" not in metadata:
        return
    index = metadata["model-index"]
    problems = list(_index_shape(index))
    yield from (f"model-index: {problem}" for problem in problems)
    if not problems:
        from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

        if eval_results_to_model_index(*model_index_to_eval_results(index)) != index:
            yield "model-index: huggingface_hub reads something else in it, or loses a part"


def _index_shape(index: Any) -> Iterator[str]:
    if not (isinstance(index, list) and len(index) == 1 and isinstance(index[0], dict)):
        yield "a list of one model is expected"
        return
    if not isinstance(index[0].get("name"), str):
        yield "the model has no name"
    results = index[0].get("results")
    if not (isinstance(results, list) and results):
        yield "the model has no results"
        return
    for number, result in enumerate(results):
        for problem in _result_shape(result):
            yield f"result {number}: {problem}"


def _result_shape(result: Any) -> Iterator[str]:
    if not isinstance(result, dict):
        yield "task, dataset and metrics are expected"
        return
    task, dataset, metrics = (result.get(key) for key in ("task", "dataset", "metrics"))
    if not (isinstance(task, dict) and task.get("type") in names("pipeline_tags")):
        yield "no task.type of the Hub's tasks"
    for key in ("type", "name"):
        if not (isinstance(dataset, dict) and isinstance(dataset.get(key), str) and dataset[key]):
            yield f"no dataset.{key}"
    if not (isinstance(metrics, list) and metrics):
        yield "no metrics"
        return
    for metric in metrics:
        yield from _metric_shape(metric)


def _metric_shape(metric: Any) -> Iterator[str]:
    if not isinstance(metric, dict) or metric.get("type") not in names("metrics"):
        yield "a metric without a type of the Hub's metrics"
        return
    value = metric.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield f"{metric['type']}: its value is no number"
    if "args" in metric and not isinstance(metric["args"], dict):
        yield f"{metric['type']}: args are no mapping"
    if "verified" in metric or "verifyToken" in metric:
        yield f"{metric['type']}: verified is for the Hub's own evaluation service"


_RULES: Final[tuple[Callable[[dict[str, Any]], Iterator[str]], ...]] = (
    _kinds,
    _languages,
    _license,
    _one_of("pipeline_tag", "pipeline_tags"),
    _one_of("library_name", "libraries"),
    _one_of("metrics", "metrics"),
    _base_models,
    _datasets,
    _tags,
    _model_index,
)


def _not_json(key: str, value: Any) -> Iterator[str]:
    """Dates and other values that YAML has and the Hub's JSON has not."""
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                yield f"{key}: {name!r} is no key for JSON"
            yield from _not_json(f"{key}.{name}" if key else str(name), item)
    elif isinstance(value, list):
        for item in value:
            yield from _not_json(key, item)
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{key}: {value} is no number for JSON"
    elif not isinstance(value, str | int | float | None):
        yield f"{key}: {value} is a {type(value).__name__}; write it as a text"


def _broken_links(body: str, folder: Path) -> Iterator[str]:
    for target in _LINK.findall(body):
        if re.match(r"[a-z]+:|#", target):
            continue
        if ".." in target or not (folder / target).is_file():
            yield f"a link to {target}, which is not there"
