"""What of a model folder is published: by a list of what users need, never by a list of what they do not.

A model folder is a run folder, one of its checkpoints, or the copy of one. Checkpoints hold more weights than
the model has (the CTC head, LoRA's adapters); these stay at home with optimizer states and pickles.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from vietst.config_schema import HubSection
from vietst.errors import HubError
from vietst.full_disk import full_disk_is_an_error
from vietst.hub.model_card import write_model_card
from vietst.hub.published_record import (
    PUBLISHED_RECORD,
    RECORD_FILES,
    find_record,
    write_published_record,
)

WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"

MODEL_FILES: Final = (
    WEIGHTS,
    CONFIG,
    "generation_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "normalizer.json",
    "sentencepiece.bpe.model",
)
"""What `from_pretrained` reads, of which each model has some."""

ADDED_FILES: Final = ("self_check/*",)
"""What a run folder has for users besides: a synthetic clip, and what the model made of it."""

CARD_FILES: Final = ("README.md", "charts/*.png", "results/*.json")
"""What the model card brings along."""

PUBLISHED: Final = (*MODEL_FILES, *PUBLISHED_RECORD, *ADDED_FILES, *CARD_FILES)
"""Patterns of all that may ever be in a repository of ours."""

_NOT_FOR_USERS: Final = ("ctc_head.",)
"""Beginnings of names of weights that only training uses."""


def is_published(path: str) -> bool:
    """Whether a path in a repository is one of ours."""
    return any(fnmatch(path, pattern) for pattern in PUBLISHED)


def require_model(model_dir: Path) -> None:
    """Refuse a folder that is no model which can be published.

    Raises:
        HubError: the configuration or the weights are missing.
        ModelError: an adapter, alone or beside a model.
    """
    if model_dir.is_dir():  # else it would be asked for on the Hub
        from vietst.models.loading import refuse_adapter

        refuse_adapter(str(model_dir))
    missing = [name for name in (CONFIG, WEIGHTS) if not (model_dir / name).is_file()]
    if missing:
        raise HubError(
            where=f"model folder {model_dir}",
            rule="the folder of a run, of one of its checkpoints, or of another model of this project",
            found=f"no {' and no '.join(missing)}",
            do="name another folder; where checkpoints hold their weights in shares, push the run folder "
            "when the training has ended",
        )


def take_snapshot(model_dir: Path, snapshot: Path) -> None:
    """Put what a release is made of into a folder of its own, where no later step of the training changes it.

    Weights are linked, which takes no time and no room; where the file system has no links they are copied.

    Args:
        model_dir: of a checkpoint, the run's own record in the folder above is taken along.

    Raises:
        HubError: no room.
    """
    require_model(model_dir)
    with _full_disk_is_an_error(snapshot):
        for source, path in _sources(model_dir):
            target = snapshot / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if path == WEIGHTS:
                _link_or_copy(source, target)
            else:
                shutil.copyfile(source, target)


def make_release(model_dir: Path, work: Path, repo_id: str, hub: HubSection) -> dict[str, Path]:
    """Everything that is published of a model.

    Args:
        model_dir: a model folder or a snapshot of one; it is left as it is.
        work: an empty folder for what has to be written: weights without what only training uses, the record
            without local paths, the model card.
        repo_id, hub: for the model card.

    Returns:
        Path in the repository → file.

    Raises:
        HubError: no model, or a model card that breaks a rule; no room.
        ModelError: weights that are damaged.
    """
    require_model(model_dir)
    sources = {path: source for source, path in _sources(model_dir)}
    release = {path: sources[path] for path in sources if _is_one_of(path, (*MODEL_FILES, *ADDED_FILES))}
    with _full_disk_is_an_error(work):
        release[WEIGHTS] = _released_weights(sources[WEIGHTS], work / WEIGHTS)
        release[CONFIG] = _released_config(sources[CONFIG], work / CONFIG)
        write_published_record(sources, work)
        write_model_card(model_dir, work, repo_id=repo_id, hub=hub)
    written = {path.relative_to(work).as_posix(): path for path in sorted(work.rglob("*")) if path.is_file()}
    release |= {path: file for path, file in written.items() if _is_one_of(path, PUBLISHED)}
    return dict(sorted(release.items()))


def _link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file; a copy where there are none, and on Windows, which would not delete the first
    while the second is read."""
    if os.name != "nt":
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def _full_disk_is_an_error(folder: Path) -> contextlib.AbstractContextManager[None]:
    return full_disk_is_an_error(
        f"publishing, in {folder}",
        HubError,
        rule="room for another copy of the weights",
        do="make room there; such files lie in the folder that TMPDIR names, and while training in "
        "the run folder",
    )


def _is_one_of(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def _sources(model_dir: Path) -> Iterator[tuple[Path, str]]:
    """Files that a release is made of, with their places in it; the record of a checkpoint is its run's."""
    for pattern in (*MODEL_FILES, *ADDED_FILES):
        for file in sorted(model_dir.glob(pattern)):
            if file.is_file():
                yield file, file.relative_to(model_dir).as_posix()
    for name in RECORD_FILES:
        if (record := find_record(model_dir, name)) is not None:
            yield record, name


def _released_config(config: Path, written: Path) -> Path:
    """The configuration without the places where parts of the model once lay, which older runs recorded."""
    recorded = "_name_or_path"
    content = json.loads(config.read_text(encoding="utf-8"))
    parts = [content, *(value for value in content.values() if isinstance(value, dict))]
    if not any(recorded in part for part in parts):
        return config
    for part in parts:
        part.pop(recorded, None)
    written.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8", newline="\n")
    return written


def _released_weights(weights: Path, written: Path) -> Path:
    """The weights as they are, or, where there are more than the model's, a file without the others."""
    from safetensors.torch import save_file

    from vietst.models.loading import load_error
    from vietst.models.lora import is_merged_already

    try:
        file = safe_open(weights, framework="pt")
    except SafetensorError as error:
        raise load_error(str(weights.parent), "a whole model", error) from error
    with file as opened:
        names = list(opened.keys())
        kept = [name for name in names if not (name.startswith(_NOT_FOR_USERS) or is_merged_already(name))]
        if kept == names:
            return weights
        tensors: dict[str, Any] = {name: opened.get_tensor(name) for name in kept}
        save_file(tensors, written, metadata=opened.metadata())
    return written
