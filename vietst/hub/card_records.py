"""What is recorded of a model: in its run folder, and by an evaluation of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vietst.errors import HubError
from vietst.evaluation.history import History
from vietst.evaluation.metrics_file import METRICS_SUFFIX, read_metrics
from vietst.hub.metadata_rules import is_hub_id
from vietst.hub.published_record import (
    ENVIRONMENT,
    RESOLVED_CONFIG,
    RUN_FACTS,
    TRAIN_RESULTS,
    TRAINER_STATE,
    find_record,
    read_record,
)
from vietst.models.loading import model_version
from vietst.models.model_record import ModelRecord, read_model_record
from vietst.runtime import get_logger

logger = get_logger(__name__)

_WEIGHTS: Final = "model.safetensors"


@dataclass(frozen=True)
class RunRecords:
    """The records of a model folder; empty where there are none."""

    model: ModelRecord | None
    """What the model says about itself; None: it was trained elsewhere."""
    facts: Mapping[str, Any]
    config: Mapping[str, Any]
    """The resolved configuration, by section."""
    environment: Mapping[str, Any]
    train_results: Mapping[str, Any]
    trainer_state: Mapping[str, Any]
    model_config: Mapping[str, Any]
    generation_config: Mapping[str, Any]
    feature_extractor: Mapping[str, Any]
    results: Mapping[str, Any]
    """The metrics of an evaluation of this model."""

    def setting(self, section: str, key: str) -> Any:
        """A value of the configuration; None where it is not recorded."""
        return (self.config.get(section) or {}).get(key)

    @property
    def base_origin(self) -> str | None:
        """Where the weights come from that training started from, see `base_models.base_facts`; None: not
        recorded."""
        origin = self.facts.get("base_origin")
        return origin if origin in ("untrained", "hub", "local") else None

    @property
    def base_hub_ids(self) -> list[str]:
        """What is known of them on the Hub."""
        return [hub_id for hub_id in self.facts.get("base_hub_ids", ()) if is_hub_id(hub_id)]

    def history(self, name: str) -> History:
        """The log of the training, as far as it had come when this model was saved."""
        return History(name, self.trainer_state.get("log_history", ()))

    @property
    def step(self) -> int | None:
        """The optimizer step that the weights are of."""
        state = self.trainer_state
        if not state:
            return None
        # A finished training has loaded its best weights again.
        is_finished = bool(self.train_results)
        if (
            is_finished
            and self.setting("training", "load_best_model_at_end")
            and state.get("best_global_step")
        ):
            return int(state["best_global_step"])
        return int(state["global_step"])


def read_records(model_dir: Path, metrics_json: Path | None = None) -> RunRecords:
    """Everything that is recorded of a model.

    Args:
        model_dir: a run folder, a checkpoint in one, or another model folder.
        metrics_json: results of an evaluation of this model; None: those that `find_results` finds.

    Raises:
        HubError: `metrics_json` is about another model, or a record cannot be read.
    """
    facts = _read(model_dir, RUN_FACTS)
    if metrics_json is None:
        metrics_json = find_results(model_dir, facts)
        results = read_metrics(metrics_json) if metrics_json else {}
    else:
        results = read_metrics(metrics_json)
        _require_same_run(metrics_json, results, facts)
    return RunRecords(
        model=read_model_record(str(model_dir)),
        facts=facts,
        config=_read(model_dir, RESOLVED_CONFIG),
        environment=_read(model_dir, ENVIRONMENT),
        train_results=_read(model_dir, TRAIN_RESULTS),
        trainer_state=_read(model_dir, TRAINER_STATE),
        model_config=_read(model_dir, "config.json"),
        generation_config=_read(model_dir, "generation_config.json"),
        feature_extractor=_read(model_dir, "processor_config.json").get("feature_extractor", {}),
        results=results,
    )


def find_results(model_dir: Path, facts: Mapping[str, Any]) -> Path | None:
    """The results of the last evaluation of a run folder, in `results` beside it.

    None where there are none, or none of this model: of a namesake, or it was trained again since.
    """
    path = model_dir.resolve().parent / "results" / f"{model_dir.resolve().name}{METRICS_SUFFIX}"
    if not path.is_file():
        return None
    is_older = path.stat().st_mtime < (model_dir / _WEIGHTS).stat().st_mtime
    if is_older or not _is_of(read_metrics(path), model_dir, facts):
        logger.warning("%s is older than the model, or of another one: left out of its card", path)
        return None
    return path


def _is_of(results: Mapping[str, Any], model_dir: Path, facts: Mapping[str, Any]) -> bool:
    if facts:
        return _run_of(results) == facts
    return (results.get("facts") or {}).get("model_version") == model_version(str(model_dir))


def _require_same_run(path: Path, results: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    if _run_of(results) != facts:
        raise HubError(
            where=f"results {path}",
            rule="results of the model that is published",
            found="facts of another run",
            do="evaluate the model again with scripts/run_evaluation.py, or name its own results",
        )


def _run_of(results: Mapping[str, Any]) -> Mapping[str, Any]:
    return (results.get("facts") or {}).get("run") or {}


def _read(model_dir: Path, name: str) -> dict[str, Any]:
    return read_record(find_record(model_dir, name))
