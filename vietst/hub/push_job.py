"""One push in a process of its own, which a training can leave alone, and end at any moment.

    python -m vietst.hub.push_job '{"hub": {…}, "snapshot": "…" or null}'

Without a snapshot it looks whether the repository takes pushes, and makes it. The last line that it prints
is the repository's name, or the model's address; where it fails, the last ones are the error. It ends by
itself when its stdin is closed, which happens when the training is killed: an old model must not go up after
the training that was started again has pushed a newer one.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Final

from vietst.config_schema import HubSection
from vietst.errors import VietstError
from vietst.script_end import EXIT_PREEMPTED, EXIT_USER_ERROR

EXIT_HUB_AWAY: Final = EXIT_PREEMPTED
"""Exit code where the same push may succeed later."""

_OF_THE_LAUNCH: Final = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK")


def start_push(hub: HubSection, snapshot: Path | None, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the process; its stdin has to stay open as long as it is wanted."""
    task = {"hub": hub.model_dump(mode="json"), "snapshot": str(snapshot) if snapshot else None}
    environment = {name: value for name, value in os.environ.items() if name not in _OF_THE_LAUNCH}
    return subprocess.Popen(
        [sys.executable, "-m", "vietst.hub.push_job", json.dumps(task)],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={
            **environment,
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONUTF8": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
        start_new_session=True,  # Ctrl-C and a scheduler's signals are for the training, which ends this
    )


def main() -> None:
    task = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_the_training, daemon=True).start()
    from vietst.hub.publishing import HubAwayError, publish_model, require_repository

    hub = HubSection.model_validate_json(json.dumps(task["hub"]))
    try:
        if task["snapshot"] is None:
            print(require_repository(hub))
        else:
            snapshot = Path(task["snapshot"])
            print(publish_model(snapshot, hub, work_dir=snapshot.parent))
    except VietstError as error:
        print(f"vietst.errors.HubError: {error}")  # as `error_in_text` reads it
        sys.exit(EXIT_HUB_AWAY if isinstance(error, HubAwayError) else EXIT_USER_ERROR)


def _end_with_the_training() -> None:
    sys.stdin.read()
    os._exit(EXIT_HUB_AWAY)


if __name__ == "__main__":
    main()
