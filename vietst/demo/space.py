"""A folder that runs as a Space of the Hugging Face Hub: the demo's page with a model of the Hub.

vietst is not on PyPI, so the folder holds a copy of what the page needs of it, and installs the rest by
requirements.txt, in the versions of this environment. Gradio comes with the Space, as README.md asks.
"""

import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Final

import vietst
from vietst.data.tables import atomic_writer
from vietst.demo.listener import Limits
from vietst.errors import VietstError

REQUIRED: Final = (
    "av",
    "huggingface_hub",
    "Jinja2",
    "numpy",
    "protobuf",
    "psutil",
    "pyarrow",
    "pydantic",
    "PyYAML",
    "safetensors",
    "scipy",
    "sentencepiece",
    "silero-vad",
    "soundfile",
    "soxr",
    "threadpoolctl",
    "torch",
    "tqdm",
    "transformers",
    "wordfreq",
)
"""What the copied package imports while the page runs; a test starts it with nothing else."""

_NOT_COPIED: Final = (
    *("training", "benchmarks", "doctor", "export", "evaluate_modules", "__pycache__"),
    "README.md",  # their links lead to what is not there
)
"""What the page does not need of the package."""

_README: Final = """\
A page that writes down Vietnamese speech with English words in it, by the model
[{model}](https://huggingface.co/{model}).

`vietst/` is a copy of the package's source ({version}). For a private model set the secret `HF_TOKEN` to a
token that may read it. To try the page elsewhere: `pip install gradio=={gradio} -r requirements.txt`, then
`python app.py`.
"""

_APP: Final = '''\
"""The page that this Space shows; its settings."""

from functools import partial

from vietst.demo.listener import Limits
from vietst.demo.page import run_demo
from vietst.runtime import quiet_libraries
from vietst.script_end import run_script

MODEL = {model!r}
LIMITS = Limits(max_upload_mb={limits.max_upload_mb!r}, max_duration_s={limits.max_duration_s!r})

if __name__ == "__main__":
    quiet_libraries()
    run_script(partial(run_demo, MODEL, LIMITS))
'''


def write_space(folder: Path, model: str, limits: Limits) -> None:
    """Write README.md with the Space's metadata, app.py, requirements.txt and the package's source.

    Args:
        folder: new or empty.
        model: Hub id.

    Raises:
        VietstError: a model that is not on the Hub by its name, a folder with files in it, or a package that
            is not installed here, so that its version is not known.
    """
    _require_hub_id(model)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise VietstError(
            where=f"--space {folder}",
            rule="a new or empty folder",
            found="files in it",
            do="name another folder, or delete this one first",
        )
    files = {
        "README.md": _readme(model),
        "app.py": _APP.format(model=model, limits=limits),
        "requirements.txt": "".join(f"{name}=={_version(name)}\n" for name in REQUIRED),
    }
    for name, text in files.items():
        with atomic_writer(folder / name) as file:
            file.write(text)
    package = Path(vietst.__file__).parent
    shutil.copytree(package, folder / "vietst", ignore=shutil.ignore_patterns(*_NOT_COPIED))
    license_of_package = package.parent / "LICENSE"
    if license_of_package.exists():
        shutil.copy(license_of_package, folder)
    print(
        f"Written: {folder}. Try it: python {folder / 'app.py'}\n"
        f"Publish it: hf upload OWNER/SPACE {folder} --repo-type space"
    )


def _require_hub_id(model: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(model)
        is_hub_id = "/" in model and not Path(model).exists()
    except HFValidationError:
        is_hub_id = False
    if not is_hub_id:
        raise VietstError(
            where=f"--model {model}",
            rule="with --space, the Hub id of the model: OWNER/NAME",
            found="a folder of this machine" if Path(model).exists() else "no such id",
            do="push the model first (scripts/push_to_hub.py), and give the name that it has there",
        )


def _readme(model: str) -> str:
    from huggingface_hub import SpaceCardData

    gradio_version = _version("gradio")
    data = SpaceCardData(
        title="Vietnamese speech with English words",
        emoji="🗣️",
        colorFrom="blue",
        colorTo="yellow",
        sdk="gradio",
        sdk_version=gradio_version,
        python_version=".".join(platform.python_version_tuple()[:2]),
        app_file="app.py",
        license="apache-2.0",
        models=[model],
        short_description="Code-switched transcripts and Vietnamese translations",
    )
    text = _README.format(model=model, version=vietst.__version__, gradio=gradio_version)
    return f"---\n{data.to_yaml()}\n---\n\n{text}"


def _version(package: str) -> str:
    try:
        return metadata.version(package).partition("+")[0]  # torch's build is the Space's own choice
    except metadata.PackageNotFoundError:
        raise VietstError(
            where="the Space's requirements",
            rule="the packages of the demo are installed here, since a Space gets the same versions",
            found=f"no package {package}",
            do='install it: pip install -e ".[demo]"',
        ) from None
