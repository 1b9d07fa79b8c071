"""What a model that was trained here says about itself, in the `config.json` that lies beside its weights.

The record goes wherever the weights go: into checkpoints, the run folder, a release on the Hub, and copies
of these. Stock transformers keeps it and makes nothing of it. A model without a record was trained
elsewhere, and its `translate` need not speak Vietnamese: that of OpenAI's Whispers speaks English.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vietst import __version__
from vietst.config_schema import (
    AudioSection,
    ContextChoice,
    EvaluationSection,
    ModelSection,
    RunConfig,
    TextSection,
)
from vietst.constants import TASKS
from vietst.data.context import ContextWindows, windows_of
from vietst.errors import ModelError, VietstError
from vietst.models.loading import read_config
from vietst.runtime import get_logger
from vietst.text_style import AS_IS, TextStyle

RECORD_KEY: Final = "vietst"
"""Of `config.json`."""

logger = get_logger(__name__)


class ModelRecord(BaseModel):
    """What the model was trained for, and how its texts are generated."""

    # Keys of later versions are left unread.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    vietst_version: str | None
    """None: trained before models carried a record."""

    architecture: Literal["whisper", "e2e"]

    tasks: Annotated[tuple[Literal["transcribe", "translate"], ...], Field(min_length=1)]
    """`translate` means: into `language`."""

    language: Annotated[str, Field(min_length=2)]
    """Of the decoder prompt, for all tasks."""

    num_beams: Annotated[int, Field(ge=1)]
    """1 is greedy."""

    max_new_tokens_per_second: Annotated[float, Field(gt=0)]
    """Cap on generated tokens by the clip's duration."""

    max_new_tokens_base: Annotated[int, Field(ge=0)]
    """Tokens allowed whatever the duration."""

    context: ContextWindows | None = None
    """Windows that a Whisper was trained in besides its own, and is used in if nothing else is said. None:
    its own alone."""

    text_style: TextStyle = AS_IS
    """How it was taught to write."""


def record_of(config: RunConfig) -> ModelRecord:
    """The record of the model that a run trains."""
    return _record(config.model, config.evaluation, config.audio, config.text, __version__)


def _record(
    model: ModelSection,
    evaluation: EvaluationSection,
    audio: AudioSection,
    text: TextSection,
    version: str | None,
) -> ModelRecord:
    return ModelRecord(
        vietst_version=version,
        architecture=model.type,
        tasks=TASKS if model.task == "both" else (model.task,),
        language=model.language,
        num_beams=evaluation.test_num_beams,
        max_new_tokens_per_second=evaluation.max_new_tokens_per_second,
        max_new_tokens_base=evaluation.max_new_tokens_base,
        context=windows_of(audio) if audio.context == "bucketed" else None,
        text_style=text.style,
    )


def write_model_record(model: Any, record: ModelRecord) -> None:
    """Have `save_pretrained` of a transformers model write the record into its `config.json`.

    Its beams stand in `generation_config.json` too: a stock pipeline that finds none there takes five.
    """
    setattr(model.config, RECORD_KEY, record.model_dump(mode="json"))
    model.generation_config.num_beams = record.num_beams


def read_model_record(name_or_path: str, *, revision: str | None = None) -> ModelRecord | None:
    """The record of a folder or Hub id; None: the model was not trained here.

    Args:
        revision: branch, tag or commit of a repository on the Hub.

    Raises:
        ModelError: no `config.json` there, or a record that this version does not understand.
        VietstError: a run folder from before there were records, whose resolved configuration is no good.
    """
    written = read_config(name_or_path, "a model with a config.json", revision=revision).get(RECORD_KEY)
    if written is None:
        return _record_of_run_folder(Path(name_or_path))
    try:
        return ModelRecord.model_validate(written)
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(
            where=f"{RECORD_KEY}.{'.'.join(map(str, first['loc']))} in config.json of model {name_or_path}",
            rule="what training wrote there",
            found=f"{first['input']!r}: {first['msg']}",
            do="use the version of vietst that trained the model, or a later one",
        ) from None


def context_of(
    model_name: str, record: ModelRecord | None, architecture: str, asked: ContextChoice | None
) -> ContextWindows | None:
    """The windows that a model is used in; None: its own alone.

    Args:
        record: of the model; None: it was trained elsewhere.
        asked: None: as it was trained.

    Raises:
        ModelError: windows for a model that hears clips as long as they are.
    """
    trained_in = record.context if record else None
    if asked == "full":
        return None
    if asked is None or trained_in is not None:
        return trained_in
    if architecture != "whisper":
        raise ModelError(
            where=f"context of model {model_name}",
            rule="bucketed is for Whispers: others hear clips as long as they are",
            found=f"an {architecture} model",
            do="leave the context out",
        )
    logger.warning("%s was not trained in short windows: it may repeat itself in them", model_name)
    return windows_of(AudioSection())


def _record_of_run_folder(folder: Path) -> ModelRecord | None:
    """What the resolved configuration says of a run that was trained before there were records."""
    path = folder / "resolved_config.yaml"
    if not path.is_file():
        return None
    try:
        resolved = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _record(
            ModelSection(**resolved["model"]),
            EvaluationSection(**resolved["evaluation"]),
            AudioSection(),  # there were no short windows either
            TextSection(),
            None,
        )
    except (OSError, ValueError, TypeError, LookupError, yaml.YAMLError) as error:
        raise VietstError(
            where=str(path),
            rule="the resolved configuration that training wrote",
            found=str(error),
            do="restore the file from the run, or delete it to evaluate the folder as any other model",
        ) from None
