"""From the manifest to the feature caches: does what is missing or outdated, and nothing twice."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vietst.constants import SPLITS
from vietst.data.audited_manifest import read_audit_summary
from vietst.data.build_members import BuildMember, one_at_a_time, require_shared_disk
from vietst.data.feature_cache import build_feature_caches, open_feature_cache
from vietst.data.features import LOG_MEL_80, LOG_MEL_128, WAVEFORM_16K, InputKind, log_mel_kind
from vietst.data.manifest import AUDIO_FACTS_NAME, clean_manifest_is_current, preprocess_manifest
from vietst.data.row_rules import PreprocessOptions
from vietst.data.sources import manifests_of, name_of, paths_of
from vietst.data.split_audit import split_hash as split_hash_of
from vietst.data.splits import open_split_file, split_manifest, split_path
from vietst.data.takedown_features import refuse_taken_down
from vietst.data.takedown_list import read_takedown
from vietst.errors import ConfigError, FeatureCacheError, ManifestError
from vietst.runtime import get_logger

if TYPE_CHECKING:
    from vietst.config_schema import RunConfig

logger = get_logger(__name__)


def input_kind_of_config(config: "RunConfig") -> InputKind:
    """What a configuration's model listens to, by its name alone: no repository is read.

    A fine-tuned model whose name does not say that it comes from large-v3 is taken for one of 80 mels; its
    training then names the command that builds the other cache.
    """
    if config.model.type == "e2e":
        return WAVEFORM_16K
    if config.nano is not None:
        return log_mel_kind(config.nano.num_mel_bins, config.nano.hop_length_samples, config.nano.window_s)
    return LOG_MEL_128 if "large-v3" in config.model.name else LOG_MEL_80


def local_features_dir(config: "RunConfig") -> Path:
    """The folder that features are built into. Raises ConfigError if they are to be read from the Hub."""
    features_dir = config.paths.features_dir
    if isinstance(features_dir, str):
        raise ConfigError(
            where="paths.features_dir",
            rule="features are built into a folder",
            found=features_dir,
            do="name a folder; to publish them, add --push_to_hub OWNER/NAME",
        )
    return features_dir


def prepare_features(
    config: "RunConfig",
    kinds: Sequence[InputKind],
    *,
    num_proc: int | None = None,
    member: BuildMember | None = None,
    verify: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Cleans and splits the manifest where that was not done yet, and builds the caches that are missing.

    Args:
        num_proc: processes (threads where audio is measured); None: `data.num_proc`, else one for each core.
        member: the part of the builds that this process writes, see `build_feature_caches`. Whichever comes
            first cleans and splits.
        verify: see `build_feature_caches`.

    Returns:
        The folders of the caches, in the order of `kinds`.

    Raises:
        ManifestError: there is no manifest, or it cannot be used.
        FeatureCacheError: unusable audio, or too little disk space.
    """
    paths = config.paths
    features_dir = local_features_dir(config)
    num_proc = num_proc or config.data.num_proc
    for path in paths_of(manifests_of(config)):
        _require_manifest(path)
    require_shared_disk(features_dir)
    with one_at_a_time(features_dir):
        _clean_and_split(config, num_proc, progress)
    return build_feature_caches(
        paths.splits_dir,
        features_dir,
        kinds,
        audio_root=paths.data_root,
        num_proc=num_proc,
        measured=paths.clean_manifest_path.with_name(AUDIO_FACTS_NAME),
        member=member,
        verify=verify,
        progress=progress,
    )


def publish_features(
    config: "RunConfig",
    kinds: Sequence[InputKind],
    repo_id: str,
    *,
    public: bool,
    num_proc: int | None = None,
) -> str:
    """`prepare_features`, and their upload to a dataset repository of the Hub.

    Returns:
        The repository's address, for `paths.features_dir`.

    Raises:
        FeatureCacheError: a Hub or repository that refuses, told before anything is built.
    """
    from vietst.data.feature_upload import push_features, require_repository

    features_dir = local_features_dir(config)
    repo_id = require_repository(repo_id, public=public)
    directories = prepare_features(config, kinds, num_proc=num_proc)
    address = push_features(repo_id, features_dir, list(zip(kinds, directories, strict=True)), public=public)
    logger.info("published; train on it with paths.features_dir=%s", address)
    return address


def publish_built_features(
    config: "RunConfig",
    kind: InputKind,
    repo_id: str,
    *,
    public: bool,
    config_path: Path,
    split_hash: str | None,
) -> str:
    """`publish_features` of a cache that is there: nothing is cleaned, split or built.

    Args:
        config_path: of the configuration, for the commands that errors name.
        split_hash: of the splits that the run was trained on; None: not recorded.

    Raises:
        FeatureCacheError: there is no cache for the splits as they are, or one with rows of the takedown
            list; the splits are no longer those of the run; or a Hub or repository that refuses.
    """
    from vietst.data.feature_upload import push_features, require_repository

    def command(script: str) -> str:
        return shlex.join(["python", f"scripts/{script}", "--config", str(config_path)])

    paths, features_dir = config.paths, local_features_dir(config)
    cache = open_feature_cache(
        paths.splits_dir,
        features_dir,
        kind,
        audio_root=paths.data_root,
        build_command=command("build_features.py"),
    )
    takedown = read_takedown(paths.takedown_path)
    refuse_taken_down(cache, takedown, where=str(features_dir), do=command("take_down.py"))
    directory = features_dir / Path(cache["train"].cache_files[0]["filename"]).parents[1].name
    current = split_hash_of(
        {split: open_split_file(split_path(paths.splits_dir, split)).digest for split in SPLITS}
    )
    if split_hash not in (None, current):
        raise FeatureCacheError(
            where=str(paths.splits_dir),
            rule=f"features of the splits that the run was trained on, with the hash {split_hash}",
            found=f"splits that were made anew since, with the hash {current}",
            do=f"bring those of the run back, or push features of these: {command('build_features.py')} "
            "--push_to_hub OWNER/NAME",
        )
    repo_id = require_repository(repo_id, public=public)
    address = push_features(repo_id, features_dir, [(kind, directory)], public=public)
    logger.info("published; train on it with paths.features_dir=%s", address)
    return address


def _require_manifest(path: Path) -> None:
    if not path.is_file():
        raise ManifestError(
            where=str(path),
            rule="the manifest is a TSV file with the columns audio_path, transcript and translation",
            found="no such file",
            do="put yours there (or set paths.manifest_path, data.sources), or make a spoken sample: "
            "python scripts/make_sample_corpus.py",
        )


def _clean_and_split(config: "RunConfig", num_proc: int | None, progress: bool) -> None:
    paths, options, manifests = config.paths, PreprocessOptions.from_config(config), manifests_of(config)
    takedown = read_takedown(paths.takedown_path)
    if (summary := read_audit_summary(paths.clean_manifest_path)) is not None:
        # Cleaning would put back what the audit dropped.
        logger.info("%s: is what an audit left of %s", paths.clean_manifest_path, summary["input"]["path"])
    elif clean_manifest_is_current(
        manifests,
        paths.clean_manifest_path,
        audio_root=paths.data_root,
        options=options,
        takedown=takedown,
    ):
        logger.info("%s: is already the cleaned %s", paths.clean_manifest_path, name_of(manifests))
    else:
        preprocess_manifest(
            manifests,
            paths.clean_manifest_path,
            audio_root=paths.data_root,
            options=options,
            takedown=takedown,
            num_proc=num_proc,
            progress=progress,
        )
    split_manifest(
        paths.clean_manifest_path,
        paths.splits_dir,
        ratios=config.data.split_ratios,
        seed=config.training.seed,
        eval_from=config.data.eval_from,
        takedown=takedown,
    )
