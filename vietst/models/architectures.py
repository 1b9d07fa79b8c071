"""The architectures by the name that `model.type` and `--model_type` give them.

The modules offer the same functions in the same order, so that what trains, evaluates and transcribes
need not know which one it holds.
"""

import types

from vietst.models import e2e, whisper

ARCHITECTURES: dict[str, types.ModuleType] = {"whisper": whisper, "e2e": e2e}
