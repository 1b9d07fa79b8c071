"""One evaluation from a model and a split file to scores, files and the printed table."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
import yaml

from vietst.config_schema import EvaluationSection
from vietst.constants import TASKS
from vietst.data.features import input_kind_of
from vietst.data.splits import read_split_file
from vietst.data.tables import file_digest
from vietst.errors import ModelError, VietstError
from vietst.evaluation.decode import DecodingOptions, decode_rows
from vietst.evaluation.evaluate_predictions import score_and_write
from vietst.evaluation.history import run_histories
from vietst.evaluation.word_language import read_word_tags
from vietst.models.architectures import ARCHITECTURES
from vietst.runtime import environment_record, get_logger

logger = get_logger(__name__)


def evaluate_model(
    *,
    model_dir: str,
    model_type: str,
    test_csv: Path,
    output: Path,
    audio_root: Path,
    train_csv: Path | None,
    run_name: str | None,
    task: str | None,
    batch_size: int,
    num_beams: int | None,
    num_workers: int,
    word_tags: Path | None = None,
    audio: bool = False,
    ter: bool = False,
) -> dict[str, Any]:
    """Decode a split with a model, score it, write the results and print them.

    Args:
        model_dir: a run folder, a model folder or a Hub id. A run folder's resolved configuration tells
            tasks, language and generation caps; a model without one is asked for both tasks in Vietnamese.
        train_csv: for the random-sentence baseline; None: `train.csv` beside `test_csv`, if it is there.
        word_tags: a word list for `word_language.read_word_tags`.
        audio: whether the report gets audio players.
        ter: score TER, too.

    Returns:
        The content of `<run>_metrics.json`.

    Raises:
        VietstError: a model, split, word list or audio file that cannot be used.
    """
    rows = read_split_file(test_csv)
    user_tags = read_word_tags(word_tags) if word_tags else {}
    run_config = _run_config(model_dir)
    architecture = ARCHITECTURES[model_type]
    processor = architecture.load_processor(model_dir)
    input_kind = input_kind_of(processor.feature_extractor)
    rows = _hearable(rows, input_kind.window_s, model_dir, test_csv)
    device, dtype = _device_and_dtype()
    model = architecture.load_model(model_dir).to(device=device, dtype=dtype).eval()
    options = _options(run_config, task, batch_size, num_beams, num_workers)
    logger.info(
        "decoding %d utterances of %s with %s on %s for %s",
        len(rows),
        test_csv,
        model_dir,
        device,
        " and ".join(options.tasks),
    )
    decoded = decode_rows(
        rows,
        audio_root=audio_root,
        input_kind=input_kind,
        architecture=architecture,
        model=model,
        tokenizer=processor.tokenizer,
        options=options,
    )
    facts = {
        "model": model_dir,
        "model_type": model_type,
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "decoding": dataclasses.asdict(options),
        "test_csv": test_csv.as_posix(),
        "test_csv_digest": file_digest(test_csv),
        "num_ids_outside_tokenizer": decoded.num_unknown_ids,
        "word_tags": word_tags.as_posix() if word_tags else None,
        "run": _run_facts(model_dir),
        "environment": environment_record(),
    }
    beside = test_csv.parent / "train.csv"
    return score_and_write(
        decoded.predictions,
        decoded.timing,
        output,
        run_name or Path(model_dir).name,
        facts,
        train_csv or (beside if beside.is_file() else None),
        user_tags,
        run_histories(Path(model_dir)),
        audio_root if audio else None,
        with_ter=ter,
    )


def _run_config(model_dir: str) -> dict[str, Any]:
    """The resolved configuration in a run folder; empty for other models."""
    path = Path(model_dir) / "resolved_config.yaml"
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        config = error
    if not isinstance(config, dict):
        raise VietstError(
            where=str(path),
            rule="the resolved configuration that training wrote",
            found=str(config),
            do="restore the file from the run, or delete it to evaluate the folder as any other model",
        )
    return config


def _run_facts(model_dir: str) -> dict[str, Any] | None:
    path = Path(model_dir) / "run_facts.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _options(
    run_config: dict[str, Any], task: str | None, batch_size: int, num_beams: int | None, num_workers: int
) -> DecodingOptions:
    model_section = run_config.get("model", {})
    evaluation = EvaluationSection(**run_config.get("evaluation", {}))
    asked = task or model_section.get("task", "both")
    return DecodingOptions(
        tasks=TASKS if asked == "both" else (asked,),
        language=model_section.get("language", "vi"),
        batch_size=batch_size,
        num_beams=num_beams or evaluation.test_num_beams,
        tokens_per_second=evaluation.max_new_tokens_per_second,
        tokens_base=evaluation.max_new_tokens_base,
        num_workers=num_workers,
    )


def _hearable(
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


def _device_and_dtype() -> tuple[torch.device, torch.dtype]:
    """A GPU in half precision where there is one; float32 on a CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if torch.backends.mps.is_available():
        return torch.device("mps"), torch.float32
    return torch.device("cpu"), torch.float32
