"""Taking what the list names out of everything that lies on the disk, in an order that may break off.

Who starts it again after a kill finds what is left to do; who starts it twice finds nothing.
"""

import contextlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vietst.data.audio_facts import AudioFactsFile
from vietst.data.build_members import one_at_a_time
from vietst.data.feature_cache import FACTS_FILE_NAME
from vietst.data.manifest import AUDIO_FACTS_NAME, SUMMARY_NAME
from vietst.data.sources import manifests_of
from vietst.data.splits import AUDIT_NAME, read_audit, split_manifest
from vietst.data.tables import write_json
from vietst.data.takedown_features import (
    NamedCache,
    delete,
    find_caches,
    find_leftovers,
    find_states,
    make_without,
)
from vietst.data.takedown_list import Takedown
from vietst.data.takedown_tables import (
    NamedRows,
    clean_manifests,
    clear_manifest,
    find_half_written,
    find_in_manifests,
    find_in_table,
    forget_audio,
    remove_rows,
    split_files,
)
from vietst.data.video_ids import compile_video_id_pattern
from vietst.errors import ManifestError
from vietst.runtime import get_logger

if TYPE_CHECKING:
    from vietst.config_schema import RunConfig

logger = get_logger(__name__)


@dataclass
class Found:
    """What the list names, by the place where it is."""

    named: NamedRows
    num_rows: dict[Path, int]
    """Of cleaned manifests and the files of the splits."""
    caches: list[NamedCache]
    states: list[NamedCache]
    leftovers: list[Path]
    """What killed commands left of tables and caches."""
    num_facts: int
    """Audio files of which something is remembered."""
    rebuilt: list[Path] = field(default_factory=list)
    """Feature caches that took the place of others."""
    problem: ManifestError | None = None
    """Why the splits that are left are no usable ones; what the list names is removed even so."""

    @property
    def is_nothing(self) -> bool:
        has_files = self.caches or self.states or self.leftovers
        return not (any(self.num_rows.values()) or has_files or self.num_facts)


def find(config: "RunConfig", takedown: Takedown) -> Found:
    """Looks for what the list names; changes nothing.

    Raises:
        ManifestError: a table that cannot be read.
        FeatureCacheError: a shard that cannot.
    """
    paths = config.paths
    named = find_in_manifests(manifests_of(config), takedown, _video_id_pattern(config))
    manifests = clean_manifests(paths.clean_manifest_path, paths.splits_dir)
    tables = [*manifests, *split_files(paths.splits_dir)]
    num_rows = {path: find_in_table(path, takedown, named) for path in tables}
    half_written = find_half_written([paths.clean_manifest_path, *tables])
    features_dir = paths.local_features_dir
    caches = find_caches(features_dir, takedown, named)
    facts_files = [AudioFactsFile(path) for path in _facts_paths(config)]
    known = [
        facts
        for facts_file in facts_files
        for path in named.audio_paths
        if (facts := facts_file.remembered(path)) is not None
    ]
    named.digests.update(facts.digest for facts in known)
    return Found(
        named,
        num_rows,
        caches,
        states=find_states(features_dir, named.digests),
        leftovers=[*half_written, *find_leftovers(features_dir)] if takedown else [],
        num_facts=len(known),
    )


def take_down(config: "RunConfig", takedown: Takedown, *, rebuild: bool = True) -> Found:
    """Removes what `find` finds: rows, features, encoder states, and what is remembered of the audio.

    Args:
        rebuild: make feature caches without the named rows before their old ones are deleted, which takes
            room for both.

    Returns:
        What was there. It has a problem where without the named rows a split is empty, or there is no
        cleaned manifest to describe the splits anew: the rows, and the caches that held them, are removed
        even so.

    Raises:
        FeatureCacheError: too little room; the features are still there then.
    """
    paths, features_dir = config.paths, config.paths.local_features_dir
    found = find(config, takedown)
    if not takedown:
        return found
    manifests = clean_manifests(paths.clean_manifest_path, paths.splits_dir)
    for path in manifests:
        clear_manifest(path, manifests_of(config), takedown, found.named)
    found.problem = _take_out_of_splits(
        config, takedown, manifests[-1] if manifests else paths.clean_manifest_path
    )
    if found.caches and rebuild and found.problem is None:
        found.rebuilt = make_without(
            found.caches,
            paths.splits_dir,
            features_dir,
            audio_root=paths.data_root,
            measured=paths.clean_manifest_path.with_name(AUDIO_FACTS_NAME),
        )
    if found.caches or found.states or found.leftovers:
        with one_at_a_time(features_dir):
            delete([*found.states, *found.caches], found.leftovers)
    # Last: by what is remembered of their audio, encoder states are found.
    for facts_path in _facts_paths(config):
        forget_audio(facts_path, found.named.audio_paths)
    return found


def _video_id_pattern(config: "RunConfig") -> re.Pattern[str] | None:
    """By which the manifest was cleaned; where nobody knows, as the configuration says."""
    pattern = config.data.video_id_pattern
    summary_file = config.paths.clean_manifest_path.with_name(SUMMARY_NAME)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        pattern = json.loads(summary_file.read_text(encoding="utf-8"))["options"]["video_id_pattern"]
    return None if pattern is None else compile_video_id_pattern(pattern)


def _facts_paths(config: "RunConfig") -> tuple[Path, Path]:
    paths = config.paths
    return (
        paths.clean_manifest_path.with_name(AUDIO_FACTS_NAME),
        paths.local_features_dir / FACTS_FILE_NAME,
    )


def _take_out_of_splits(config: "RunConfig", takedown: Takedown, manifest_path: Path) -> ManifestError | None:
    """Splits without the named rows, the others where they were. Returns why these are no usable splits.

    Args:
        manifest_path: what they were made from.
    """
    paths = config.paths
    if not any(path.is_file() for path in split_files(paths.splits_dir)):
        return None
    try:
        split_manifest(
            manifest_path,
            paths.splits_dir,
            ratios=config.data.split_ratios,
            seed=config.training.seed,
            eval_from=config.data.eval_from,
            takedown=takedown,
        )
    except ManifestError as error:
        for path in split_files(paths.splits_dir):
            remove_rows(path, takedown)
        with contextlib.suppress(ManifestError):
            # Also the texts that two splits had in common.
            write_json(paths.splits_dir / AUDIT_NAME, read_audit(paths.splits_dir) | {"text_overlap": {}})
        return error
    return None
