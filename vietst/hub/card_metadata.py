"""The metadata of a model card, by which the Hub lists a model."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vietst.config_schema import HUB_DATASET_PATTERN
from vietst.constants import TRANSLATE
from vietst.hub.card_records import RunRecords
from vietst.hub.private_text import is_plain

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

LANGUAGES: Final = ("vi", "en")
PIPELINE_TAG: Final = "automatic-speech-recognition"
"""Of both tasks: the Hub has no tag for speech translation, and this is the pipeline that runs the model."""

_UNPUBLISHED: Final = "unpublished"
"""Stands for the id of a data set that is not on the Hub; the specification wants one."""

_METRICS: Final = {
    "wer": (PIPELINE_TAG, "WER (%)"),
    "cer": (PIPELINE_TAG, "CER (%)"),
    "bleu": ("translation", "BLEU"),
    "chrf": ("translation", "chrF"),
}
"""Score → the Hub's task, and how the score is called."""

_TASK_NAMES: Final = {
    PIPELINE_TAG: "Code-switched speech recognition",
    "translation": "Speech translation into Vietnamese",
}


def card_data(
    name: str, records: RunRecords, *, license: str | None, datasets: Sequence[str]
) -> "ModelCardData":
    """The metadata, from recorded facts; what is not recorded is left out.

    Args:
        name: of the model, for `model-index`.
        license: from `licenses.model_license`.
        datasets: Hub ids of the data that were trained on, from `training_datasets`.
    """
    from huggingface_hub import ModelCardData

    tags = ["code-switching", "vietst"]
    if records.model is not None:
        tags.append("whisper" if records.model.architecture == "whisper" else "speech-encoder-decoder")
        if TRANSLATE in records.model.tasks:
            tags.append("speech-translation")
    results = evaluation_results(records, datasets)
    return ModelCardData(
        language=list(LANGUAGES),
        license=license,
        library_name="transformers",
        pipeline_tag=PIPELINE_TAG,
        base_model=records.base_hub_ids or None,
        datasets=list(datasets) or None,
        tags=tags,
        metrics=[result.metric_type for result in results] or None,
        model_name=name,
        eval_results=results or None,
    )


def training_datasets(records: RunRecords, stated: Sequence[str]) -> list[str]:
    """Hub ids of the data sets that were trained on: those that are stated, and the one that the features
    came from."""
    found = re.fullmatch(HUB_DATASET_PATTERN, str(records.facts.get("features")))
    return list(dict.fromkeys([*stated, *([found[1]] if found else [])]))


def evaluation_results(records: RunRecords, datasets: Sequence[str]) -> "list[EvalResult]":
    """Test scores for `model-index`, those among `_METRICS` that there are.

    Intervals and signatures are `args` of each metric: a mapping without fixed keys, that the Hub keeps and
    that leaves the value a number. `verified` is for the Hub's own evaluation service, and not set.
    """
    from huggingface_hub import EvalResult

    results, facts = records.results, records.facts
    if not results:
        return []
    is_test = _is_test_split(records)
    revision = re.search(r"@([0-9a-f]{40})$", str(facts.get("features")))
    counts = f"{results['num_utterances']:,} utterances of {results['num_videos']:,} videos"
    split_hash = facts.get("split_hash")
    return [
        EvalResult(
            task_type=task,
            task_name=_TASK_NAMES[task],
            dataset_type=datasets[0] if datasets and is_test else _UNPUBLISHED,
            dataset_name=f"{'Test split' if is_test else 'A set of its own'}: {counts}",
            dataset_split="test" if is_test else None,
            dataset_revision=revision[1] if revision and is_test else None,
            dataset_args={"split_hash": split_hash} if is_test and is_plain(str(split_hash)) else None,
            metric_type=metric,
            metric_name=label,
            metric_value=round(results[metric], 2),
            metric_args=_metric_arguments(metric, results) or None,
        )
        for metric, (task, label) in _METRICS.items()
        if results.get(metric) is not None
    ]


def _is_test_split(records: RunRecords) -> bool:
    """Whether the scores are of the split that was made together with what the model was trained on."""
    scored, splits_dir = records.results["facts"].get("test_csv"), records.setting("paths", "splits_dir")
    if scored is None or splits_dir is None:
        return False
    return Path(scored).resolve() == Path(splits_dir, "test.csv").resolve()


def _metric_arguments(metric: str, results: Mapping[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    interval = results["intervals"].get(metric, {})
    if "low" in interval:
        arguments["confidence_interval"] = {
            "level": 0.95,
            "low": round(interval["low"], 2),
            "high": round(interval["high"], 2),
            "drawn": "videos",
        }
    signature = results["metric_signatures"].get(metric)
    if signature is not None and is_plain(signature):
        arguments["signature"] = signature
    return arguments
