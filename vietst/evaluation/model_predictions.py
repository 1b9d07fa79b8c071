"""What a model says about a split: from a folder or Hub id and a split file to predictions and facts."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

import torch

from vietst.config_schema import EvaluationSection
from vietst.constants import TASKS, TRANSCRIBE, TRANSLATE
from vietst.data.features import input_kind_of
from vietst.data.splits import read_split_file
from vietst.data.tables import file_digest
from vietst.environment import environment_record
from vietst.errors import ModelError
from vietst.evaluation.decode import DecodingOptions, decode_rows
from vietst.evaluation.kept_results import made_from_fact
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.report import Timing
from vietst.evaluation.scoring import SplitOptions
from vietst.models.architectures import ARCHITECTURES, architecture_of
from vietst.models.loading import model_version
from vietst.models.model_record import ModelRecord, context_of, read_model_record
from vietst.runtime import get_logger
from vietst.text_style import AS_IS

logger = get_logger(__name__)

_ELSEWHERE: Final = EvaluationSection()
"""How models that were trained elsewhere are asked: the caps and beams of a run that says nothing."""


@dataclasses.dataclass(frozen=True)
class ModelPredictions:
    """What a model wrote, what it cost, and plain JSON data about model, data and decoding."""

    predictions: list[Prediction]
    timing: Timing
    facts: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class PlannedDecoding:
    """A model, what it is asked for, and why it is not asked for more."""

    model_dir: str
    model_type: str
    options: DecodingOptions
    split: SplitOptions
    why_no_translation: str | None

    def read_rows(self) -> list[dict[str, Any]]:
        """Of the split: read when they are needed, since a plan outlives the decoding."""
        return read_split_file(self.split.test_csv)

    @property
    def made_from(self) -> dict[str, Any]:
        """All that decides about the predictions: with the same, they need not be made again."""
        options = dataclasses.asdict(self.options)
        return {
            "model_version": model_version(self.model_dir),
            "test_csv_digest": file_digest(self.split.test_csv),
            "decoding": {
                name: options[name]
                for name in options
                if name not in ("batch_size", "num_workers", "text_style")  # the last goes with the model
            },
        }


def plan_decoding(
    model_dir: str, split: SplitOptions, *, model_type: str | None = None, task: str | None = None
) -> PlannedDecoding:
    """Look at the split, and at what the model says about itself, without its weights.

    Args:
        model_dir: a run folder, a model folder or a Hub id. Without a record of a training here
            (`models.model_record`), it is asked for Vietnamese transcripts only, unless `task` says more.
        model_type: a name of `ARCHITECTURES`; None: by the model's `config.json`.
        task: `transcribe`, `translate` or `both`; None: what the model was trained for.

    Raises:
        VietstError: a split that cannot be used, no such model, or one that cannot be run here.
    """
    read_split_file(split.test_csv)  # refused now, if at all
    record = read_model_record(model_dir)
    tasks = _tasks(record, task)
    why_no_translation = None
    if record is None and task is None:
        why_no_translation = (
            f"{Path(model_dir).name} is scored for its transcripts only: it carries no record of a training "
            "here, and elsewhere “translate” means other languages (OpenAI's Whispers speak English)."
        )
        logger.warning(why_no_translation)
    elif record is None and TRANSLATE in tasks:
        logger.warning("nothing in %s says that it translates into Vietnamese", model_dir)
    model_type = model_type or architecture_of(model_dir)
    options = dataclasses.replace(
        _options(record, tasks, split), context=context_of(model_dir, record, model_type, split.context)
    )
    return PlannedDecoding(
        model_dir,
        model_type,
        options,
        split,
        why_no_translation,
    )


def _tasks(record: ModelRecord | None, task: str | None) -> tuple[str, ...]:
    if task is not None:
        return TASKS if task == "both" else (task,)
    return record.tasks if record else (TRANSCRIBE,)


def _options(record: ModelRecord | None, tasks: tuple[str, ...], split: SplitOptions) -> DecodingOptions:
    return DecodingOptions(
        tasks=tasks,
        language=record.language if record else "vi",
        batch_size=split.batch_size,
        num_beams=split.num_beams or (record.num_beams if record else _ELSEWHERE.test_num_beams),
        tokens_per_second=(record or _ELSEWHERE).max_new_tokens_per_second,
        tokens_base=(record or _ELSEWHERE).max_new_tokens_base,
        num_workers=split.num_workers,
        text_style=record.text_style if record else AS_IS,
    )


def decode_split(plan: PlannedDecoding) -> ModelPredictions:
    """Run the model over the split.

    Raises:
        VietstError: a model or audio file that cannot be used.
    """
    split = plan.split
    architecture = ARCHITECTURES[plan.model_type]
    processor = architecture.load_processor(plan.model_dir)
    input_kind = input_kind_of(processor.feature_extractor)
    rows = hearable(plan.read_rows(), input_kind.window_s, plan.model_dir, split.test_csv)
    device, dtype = device_and_dtype()
    model = architecture.load_model(plan.model_dir).to(device=device, dtype=dtype).eval()
    logger.info(
        "decoding %d utterances of %s with %s on %s for %s",
        len(rows),
        split.test_csv,
        plan.model_dir,
        device,
        " and ".join(plan.options.tasks),
    )
    made_from = plan.made_from
    decoded = decode_rows(
        rows,
        audio_root=split.audio_root,
        input_kind=input_kind,
        architecture=architecture,
        model=model,
        tokenizer=processor.tokenizer,
        options=plan.options,
    )
    facts = {
        "model": plan.model_dir,
        "model_type": plan.model_type,
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "model_version": made_from["model_version"],
        "decoding": dataclasses.asdict(plan.options),
        "test_csv": split.test_csv.as_posix(),
        "test_csv_digest": made_from["test_csv_digest"],
        **made_from_fact(made_from),
        "num_ids_outside_tokenizer": decoded.num_unknown_ids,
        "run": _run_facts(plan.model_dir),
        "environment": environment_record(),
    }
    return ModelPredictions(decoded.predictions, decoded.timing, facts)


def _run_facts(model_dir: str) -> dict[str, Any] | None:
    path = Path(model_dir) / "run_facts.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def hearable(
    rows: list[dict[str, Any]], window_s: float, model_dir: str, test_csv: Path
) -> list[dict[str, Any]]:
    """Rows that fit the model's window; the others are named, not scored on a part of their audio."""
    kept = [row for row in rows if float(row["duration"]) <= window_s]
    if not kept:
        raise ModelError(
            where=f"{model_dir} on {test_csv}",
            rule=f"clips of at most {window_s:g} s, which is what this model hears at once",
            found=f"{len(rows)} clips, all longer",
            do="evaluate a model with a longer window, or cut the recordings",
        )
    if len(kept) < len(rows):
        logger.warning(
            "%d of %d clips are longer than the model's window of %g s and are left out",
            len(rows) - len(kept),
            len(rows),
            window_s,
        )
    return kept


def device_and_dtype() -> tuple[torch.device, torch.dtype]:
    """A GPU in half precision where there is one; float32 on a CPU."""
    if torch.cuda.is_available():
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.device("cuda"), torch.bfloat16 if has_bf16 else torch.float16
    if torch.backends.mps.is_available():
        return torch.device("mps"), torch.float32
    return torch.device("cpu"), torch.float32
