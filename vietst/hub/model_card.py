"""The card of a released model: README.md, with the charts and results that it shows.

All of it is from recorded facts (`card_records`); what is not recorded says so. Texts of records are shown
only where they are plain words: no place on this machine comes through.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vietst.config_schema import HubSection
from vietst.constants import TRANSCRIBE, TRANSLATE
from vietst.data.tables import write_json
from vietst.hub import card_results, card_tables
from vietst.hub.card_limits import limits, short_windows_s
from vietst.hub.card_metadata import card_data, training_datasets
from vietst.hub.card_records import RunRecords, read_records
from vietst.hub.licenses import ModelLicense, model_license
from vietst.hub.metadata_rules import require_valid_card
from vietst.hub.private_text import is_plain

CARD_NAME: Final = "README.md"
RESULTS_NAME: Final = "results/metrics.json"
LOSS_CHART, DEV_CHART, SLICES_CHART = (
    f"charts/{name}.png" for name in ("training_loss", "learning_curve", "slices")
)

_NAMES_OF_THE_CORPUS: Final = (
    *("by_video", "video_id", "speaker_id", "examples", "confusions"),
    *("run_name", "predictions_csv"),
    "note",  # of a baseline that was run on other utterances: names one
)
"""Keys of results that hold names of videos, utterances, persons and runs, or the corpus's texts."""


def write_model_card(
    model_dir: Path, destination: Path, *, repo_id: str, hub: HubSection, metrics_json: Path | None = None
) -> Path:
    """Write README.md, and `charts/*.png` and `results/metrics.json` as far as there is what they show.

    Args:
        model_dir: a run folder, a checkpoint in one, or the copy of either with its records.
        destination: a folder, made if it is not there.
        repo_id: OWNER/NAME of the repository.
        hub: licenses and data sets.
        metrics_json: test results; None: those in `results` beside the run folder, if they are of this model.
            Without any the card shows dev scores, and calls them so.

    Returns:
        The card, which was checked against the Hub's rules.

    Raises:
        HubError: a license that base model or data forbid, results of another model, a record that cannot
            be read, or a card that the Hub would not take.
    """
    records = read_records(model_dir, metrics_json)
    license = model_license(hub, records.base_origin, records.base_hub_ids)
    destination.mkdir(parents=True, exist_ok=True)
    name = repo_id.rpartition("/")[2]
    charts = _write_charts(records, destination, name)
    if records.results:
        write_json(_made(destination / RESULTS_NAME), published_results(records.results))
    card = destination / CARD_NAME
    text = _render(repo_id, records, license, hub, charts)
    card.write_text(text, encoding="utf-8", newline="\n")
    require_valid_card(card)
    return card


def published_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results of an evaluation without names of videos and persons, texts of the corpus, and paths."""
    published = _published(results)
    assert isinstance(published, dict)
    return published


def _published(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {
            key: _published(item)
            for key, item in value.items()
            if is_plain(key) and key not in _NAMES_OF_THE_CORPUS
        }
        return {key: item for key, item in kept.items() if item is not None or value[key] is None}
    if isinstance(value, list):
        return [item for item in map(_published, value) if item is not None]
    if isinstance(value, str):
        return value if is_plain(value) else None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write_charts(records: RunRecords, destination: Path, name: str) -> dict[str, str]:
    """Draws what there are data for. Returns a caption for each chart's path."""
    from vietst.evaluation.charts import draw_learning_curve, draw_slices, draw_training_loss, save_chart

    history, charts = records.history(name), {}
    if history.has("loss"):
        charts[LOSS_CHART] = "Training and dev loss over optimizer steps"
        save_chart(draw_training_loss([history]), destination / LOSS_CHART)
    if history.has("eval_wer") or history.has("eval_bleu"):
        charts[DEV_CHART] = "Dev scores over optimizer steps"
        save_chart(draw_learning_curve([history]), destination / DEV_CHART)
    if records.results.get("slices"):
        charts[SLICES_CHART] = "Test scores by degree of code-mixing, duration and signal level"
        save_chart(draw_slices({**records.results, "run_name": name}), destination / SLICES_CHART)
    return charts


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _render(
    repo_id: str, records: RunRecords, license: ModelLicense, hub: HubSection, charts: Mapping[str, str]
) -> str:
    from huggingface_hub import ModelCard
    from jinja2 import Environment, PackageLoader, StrictUndefined

    name = repo_id.rpartition("/")[2]
    datasets = training_datasets(records, hub.datasets)
    metadata = card_data(name, records, license=license.license, datasets=datasets)
    environment = Environment(
        loader=PackageLoader("vietst", "templates"),
        autoescape=False,  # it is Markdown; what is shown of records is plain
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    model, results, short_windows = records.model, records.results, short_windows_s(records)
    content = environment.get_template("model_card.md").render(
        card_data=metadata.to_yaml(),
        repo_id=repo_id,
        name=name,
        owner=repo_id.rpartition("/")[0],
        model=model,
        transcribes=model is not None and TRANSCRIBE in model.tasks,
        translates=model is not None and TRANSLATE in model.tasks,
        base_origin=records.base_origin,
        base_models=records.base_hub_ids,
        results=results,
        result_tables=card_results.result_tables(results) if results else [],
        result_notes=card_results.result_notes(results) if results else [],
        alarm_lines=card_results.alarm_lines(results) if results else [],
        signature_lines=card_results.signature_lines(results) if results else [],
        decoding_rows=card_results.decoding_rows(results) if results else [],
        dev_table=card_results.dev_table(records),
        data_rows=card_tables.data_rows(records, datasets, hub.dataset_license),
        knows_splits="split_hash" in records.facts,
        training_rows=card_tables.training_rows(records),
        version_rows=card_tables.version_rows(records),
        limits=limits(records),
        short_windows=card_tables.listed_seconds(short_windows) if short_windows else None,
        license=license,
        charts=charts,
        results_name=RESULTS_NAME,
        prompts=card_tables.prompts_of(records),
        num_beams=records.generation_config.get("num_beams"),
        normalizes_over_time=records.model_config.get("encoder", {}).get("feat_extract_norm") == "group",
    )
    return str(ModelCard(content))
