"""Pushing a finished model, or the features it was trained on, from the command line."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub.utils import enable_progress_bars

from vietst.config import load_config
from vietst.config_schema import RunConfig
from vietst.data.features import InputKind
from vietst.errors import HubError
from vietst.hub.licenses import require_data_permit
from vietst.hub.published_record import RESOLVED_CONFIG, RUN_FACTS, find_record, read_record
from vietst.hub.publishing import publish_model
from vietst.hub.release import require_model
from vietst.runtime import get_logger

logger = get_logger(__name__)


def push_model_folder(model_dir: Path, overrides: Sequence[str], *, dry_run: bool = False) -> None:
    """Push a model folder, as the configuration of its run says where nothing else is stated.

    Args:
        overrides: `hub.key=value`.

    Raises:
        VietstError: see `publish_model`; or no repository is named, or a key or value is wrong.
    """
    require_model(model_dir)
    resolved = find_record(model_dir, RESOLVED_CONFIG)
    hub = load_config(resolved or "base", overrides).config.hub
    if hub.repo_id is None and not dry_run:
        raise HubError(
            where="--repo_id",
            rule="a repository to push to",
            found="none, and none in the configuration of the run",
            do="say --repo_id OWNER/NAME",
        )
    enable_progress_bars()  # which transformers, asked to be quiet, takes away
    address = publish_model(model_dir, hub, dry_run=dry_run)
    if address is not None:
        logger.info("the model is at %s", address)


def push_features_of_run(
    model_dir: Path, repo_id: str | None, overrides: Sequence[str], *, public: bool
) -> None:
    """Push the features that a run was trained on, as they are: nothing is cleaned, split or built.

    Args:
        overrides: `hub.dataset_license=…`, where the run's configuration does not state it.

    Raises:
        HubError: no run folder, no repository is named, or the data may not be published.
        FeatureCacheError: see `publish_built_features`.
    """
    from vietst.data.preparation import input_kind_of_config, publish_built_features

    path = find_record(model_dir, RESOLVED_CONFIG)
    if path is None or repo_id is None:
        raise HubError(
            where="--what features",
            rule="--model_dir is a run folder, which says where its features are, and --repo_id is stated",
            found=f"no {RESOLVED_CONFIG} in {model_dir}" if path is None else "no --repo_id",
            do="state both; or push them with python scripts/build_features.py --push_to_hub",
        )
    config = load_config(path, overrides).config
    require_data_permit(config.hub, public=public)
    publish_built_features(
        config,
        input_kind_of_config(config),
        repo_id,
        public=public,
        config_path=path,
        split_hash=read_record(find_record(model_dir, RUN_FACTS)).get("split_hash"),
    )


def push_features(
    config: RunConfig,
    kinds: Sequence[InputKind],
    repo_id: str,
    *,
    public: bool,
    num_proc: int | None = None,
) -> None:
    """`publish_features`, if the data's license permits it.

    Raises:
        HubError: see `require_data_permit`, told before anything is asked or built.
    """
    from vietst.data.preparation import publish_features

    require_data_permit(config.hub, public=public)
    publish_features(config, kinds, repo_id, public=public, num_proc=num_proc)
