"""The folder that `--output` names."""

import tempfile
from pathlib import Path

from vietst.errors import VietstError


def make_output_dir(output_dir: Path, *, do: str = "name another") -> None:
    """Make the folder for the outputs, before hours are spent on what could not be written.

    Raises:
        VietstError: no folder can be there, or nothing may be written in it.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output_dir):
            pass
    except OSError as error:
        raise VietstError(
            where="--output", rule="a folder that can be written to", found=str(error), do=do
        ) from None
