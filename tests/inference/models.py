"""Tiny untrained models as training leaves them: a folder with weights, processor and record."""

from pathlib import Path

import torch

from tests.tiny_e2e import write_base
from tests.tiny_models import whisper_model, whisper_processor
from vietst.constants import TASKS
from vietst.models import e2e, e2e_inputs
from vietst.models.model_record import ModelRecord, write_model_record


def write_model(folder: Path, architecture: str, **changed: object) -> Path:
    """A model whose texts depend on what it hears, as those of untrained ones hardly do.

    Args:
        changed: values of the record.
    """
    if architecture == "whisper":
        processor = whisper_processor()
        model = whisper_model(processor)
    else:
        base = str(write_base(folder / "parts"))
        processor, model = e2e_inputs.load_processor(base), e2e.load_model(base)
        e2e.set_generation_defaults(model, "vi", "transcribe")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "embed" not in name:
                parameter.mul_(6.0)
    record = {
        "vietst_version": None,
        "architecture": architecture,
        "tasks": TASKS,
        "language": "vi",
        "num_beams": 1,
        "max_new_tokens_per_second": 4.0,
        "max_new_tokens_base": 4,
    }
    write_model_record(model, ModelRecord(**(record | changed)))
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    return folder / "model"
