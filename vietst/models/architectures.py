"""The architectures by the name that `model.type` and `--model_type` give them.

The modules offer the same functions in the same order, so that what trains, evaluates and transcribes
need not know which one it holds.
"""

import types

from vietst.errors import ModelError
from vietst.models import e2e, whisper
from vietst.models.loading import read_config

ARCHITECTURES: dict[str, types.ModuleType] = {"whisper": whisper, "e2e": e2e}


_OF_MODEL_TYPE = {"whisper": "whisper", "speech-encoder-decoder": "e2e"}


def architecture_of(name_or_path: str) -> str:
    """The name in `ARCHITECTURES` that the model type in a model's `config.json` belongs to.

    Raises:
        ModelError: no such folder or repository, or a model of another kind.
    """
    model_type = read_config(name_or_path, "a Whisper or E2E model").get("model_type")
    if model_type not in _OF_MODEL_TYPE:
        raise ModelError(
            where=f"model {name_or_path}",
            rule=f"a model type that can be loaded here: {', '.join(_OF_MODEL_TYPE)}",
            found="no config.json that says one"
            if model_type is None
            else f"{model_type}, in its config.json",
            do="name a Whisper or E2E model; what any other wrote can be scored from a predictions file",
        )
    return _OF_MODEL_TYPE[model_type]
