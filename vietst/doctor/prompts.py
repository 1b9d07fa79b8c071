"""The decoder prompts: does a stock pipeline ask for each task as training did, and what does it get?"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME

from vietst.constants import TASKS, TRANSLATE
from vietst.doctor.findings import Finding, Status
from vietst.models.architectures import Architecture
from vietst.models.model_record import ModelRecord, read_model_record

SET_DEFAULTS = "save the model again with this version of vietst, which writes generation_config.json"


def check_prompts(folder: Path, architecture: Architecture) -> Iterator[Finding]:
    if not (folder / GENERATION_CONFIG_NAME).is_file():
        yield Finding(
            Status.MEND,
            "prompts",
            f"no {GENERATION_CONFIG_NAME}: nothing tells a pipeline how to ask for a task",
            "copy or download the whole folder again",
        )
        return
    record = read_model_record(str(folder))
    tokenizer = architecture.load_processor(str(folder)).tokenizer
    generation = GenerationConfig.from_pretrained(folder)
    language = record.language if record else "vi"
    for task in record.tasks if record else TASKS:
        prompt = architecture.decoder_prompt(tokenizer, task, language)
        # What was trained elsewhere began as its authors wanted.
        wrong = list(_wrong_ids(generation, architecture, prompt, task, language)) if record else []
        said = " ".join(tokenizer.convert_ids_to_tokens(prompt))
        if wrong:
            yield Finding(
                Status.MEND,
                f"prompt of {task}",
                f"{said} in training, but generation_config.json: {'; '.join(wrong)}",
                SET_DEFAULTS,
            )
        elif record is None and task == TRANSLATE:
            yield Finding(
                Status.WARNING,
                f"prompt of {task}",
                f"{said}; not trained here, so nobody says into which language it translates",
                "ask the model's card: openai's Whispers translate into English",
            )
        else:
            meaning = f", translates into {language}" if task == TRANSLATE else ""
            yield Finding(Status.OK, f"prompt of {task}", f"{said}{meaning}")
    if record is not None:
        yield check_defaults(folder, generation, architecture, record)


def _wrong_ids(
    generation: Any, architecture: Architecture, prompt: list[int], task: str, language: str
) -> Iterator[str]:
    """Where transformers' own generation would begin otherwise than training did."""
    tasks, languages = getattr(generation, "task_to_id", {}), getattr(generation, "lang_to_id", {})
    if architecture.name == "whisper":
        expected = {
            "decoder_start_token_id": (generation.decoder_start_token_id, prompt[0]),
            f"lang_to_id of {language}": (languages.get(f"<|{language}|>"), prompt[1]),
            f"task_to_id of {task}": (tasks.get(task), prompt[2]),
            "no_timestamps_token_id": (getattr(generation, "no_timestamps_token_id", None), prompt[3]),
            "forced_decoder_ids": (getattr(generation, "forced_decoder_ids", None), None),
        }
    else:
        expected = {
            "decoder_start_token_id": (generation.decoder_start_token_id, prompt[0]),
            f"task_to_id of {task}": (tasks.get(task), prompt[1]),
        }
    for name, (found, wanted) in expected.items():
        if found != wanted:
            yield f"{name} is {found}, not {wanted}"


def check_defaults(folder: Path, generation: Any, architecture: Architecture, record: ModelRecord) -> Finding:
    """What a pipeline does when nothing is said: the first task that was trained, as it was scored."""
    task, subject = record.tasks[0], "pipeline's defaults"
    if architecture.name == "whisper":
        asked = [getattr(generation, name, None) for name in ("language", "task")]
        is_right = asked == [record.language, task]
    else:
        token_id = getattr(generation, "task_to_id", {}).get(task)
        is_right = token_id is not None and generation.forced_bos_token_id == token_id
    if not is_right:
        return Finding(
            Status.MEND, subject, f"not {task}, which the model was trained for first", SET_DEFAULTS
        )
    if generation.num_beams != record.num_beams:
        return Finding(
            Status.WARNING,
            subject,
            f"{generation.num_beams or 'no stated number of'} beams, where the model was scored with "
            f"{record.num_beams}",
            SET_DEFAULTS,
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("use_cache") is False:
        return Finding(
            Status.WARNING, subject, "use_cache is false in config.json: several times slower", SET_DEFAULTS
        )
    return Finding(Status.OK, subject, f"{task}, {record.num_beams} beams")
