"""After a training: what the saved model says about the clip by which its copies will be recognized."""

import shutil
from pathlib import Path

from transformers.integrations import unset_hf_deepspeed_config

from vietst.inference.self_check import FOLDER, record_self_check
from vietst.runtime import get_logger

logger = get_logger(__name__)


def record_release(run_dir: Path) -> None:
    """Load the saved model anew in this process alone, and record what it says; a fault is logged.

    The other processes take no part: they do not wait here, and nothing here waits for them.
    """
    # What an earlier training recorded must not go out with this model.
    shutil.rmtree(run_dir / FOLDER, ignore_errors=True)
    try:
        # Under ZeRO-3 transformers loads every model in shares, for which all processes would be needed.
        unset_hf_deepspeed_config()
        record_self_check(run_dir)
    except Exception as error:  # noqa: BLE001 - the model is trained and saved, whatever happens here
        logger.warning("the model is saved, but its self_check was not recorded: %s", error)
