"""Which weights a model's name stands for today."""

import hashlib
from typing import Final

from vietst.models.loading import model_folder

_CONFIG_NAME: Final = "config.json"


def model_identity(name_or_path: str) -> str:
    """What changes when the model of that name does: the commit of a Hub id, or a digest of a folder.

    A folder's weights are known by their sizes and times, so that gigabytes are not read.

    Raises:
        ModelError: no such folder or repository, or no way to it.
    """
    folder = model_folder(name_or_path)
    if folder.parent.name == "snapshots":  # of the Hub's cache: models--OWNER--NAME/snapshots/COMMIT
        return f"commit {folder.name}"
    hasher = hashlib.sha256((folder / _CONFIG_NAME).read_bytes())
    for weights in sorted(folder.glob("*.safetensors")):
        status = weights.stat()
        hasher.update(f"{weights.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"sha256:{hasher.hexdigest()}"
