"""COMET (Rei et al. 2022), by a program of its own: it cannot live in one environment with transformers 5.

The user names a program that takes the options of unbabel-comet's `comet-score`, in an environment of its
own, such as `uvx --from unbabel-comet comet-score`. Files go in, a JSON file comes out.
"""

import json
import math
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vietst.data.tables import file_digest
from vietst.errors import VietstError
from vietst.evaluation.metrics import Prediction, in_own_style, is_translated
from vietst.evaluation.score_counts import ScoreCounts, mean
from vietst.runtime import get_logger

logger = get_logger(__name__)

DEFAULT_PROGRAM: Final = "comet-score"
DEFAULT_MODEL: Final = "Unbabel/wmt22-comet-da"

_RESOLUTION: Final = 0.01
"""Points; nobody reports COMET more finely."""

_INSTALL: Final = 'install it apart from this project (pipx install unbabel-comet), or --comet "uvx --from …"'


@dataclass(frozen=True)
class CometOptions:
    """Which program is run, with which model."""

    program: str
    """As in a shell; words behind the first are handed on."""

    model: str
    """A Hub id, or a checkpoint file."""

    @property
    def words(self) -> list[str]:
        """The program as it is started.

        Raises:
            VietstError: there is none of this name.
        """
        words = shlex.split(self.program, posix=os.name != "nt")
        found = shutil.which(words[0]) if words else None
        if found is None:
            raise VietstError(
                where=f"--comet {self.program!r}",
                rule="a program that takes the options of unbabel-comet's comet-score",
                found="no such program",
                do=_INSTALL,
            )
        return [found, *words[1:]]

    @property
    def signature(self) -> str:
        """What exactly the score is, as far as is known here: not the program's version."""
        path = Path(self.model)
        model = f"{path.name} {file_digest(path)}" if path.is_file() else self.model
        program = Path(shlex.split(self.program, posix=os.name != "nt")[-1]).name
        return f"COMET|model:{model}|source:transcript|references:1|times:100|program:{program}"


def comet_scores(
    systems: Mapping[str, Sequence[Prediction]], options: CometOptions
) -> dict[str, ScoreCounts]:
    """`comet` of every system that translated: 100 × COMET's own score, for most models from 0 to 1.

    The source is the manifest's transcript, so that systems that heard different things are judged alike.

    Args:
        systems: by name; all of the same utterances, in the same order.

    Returns:
        By name, the score of every utterance; those without a reference have no part in it. Systems that did
        not translate all that has a reference are absent.

    Raises:
        VietstError: the program is not there, fails, or writes something else than `comet-score` does.
    """
    translated = {
        name: of_system
        for name, of_system in systems.items()
        if any(map(is_translated, of_system))
        and all(p.translation_hypothesis is not None for p in of_system if p.translation.strip())
    }
    if not translated:
        return {}
    first = next(iter(translated.values()))
    scored = [index for index, prediction in enumerate(first) if is_translated(prediction)]
    logger.info("COMET scores %d translations of each of: %s", len(scored), ", ".join(translated))
    with tempfile.TemporaryDirectory(prefix="vietst-comet-") as folder:
        of_each = _run(
            Path(folder), [[row[index] for index in scored] for row in translated.values()], options
        )
    return {
        name: mean("comet", values, _RESOLUTION).spread(scored, len(first))
        for name, values in zip(translated, of_each, strict=True)
    }


def _run(folder: Path, systems: Sequence[Sequence[Prediction]], options: CometOptions) -> list[list[float]]:
    """100 × the score of every utterance, for each system."""
    sources = _write(folder / "sources.txt", [p.transcript for p in systems[0]])
    references = _write(folder / "references.txt", [in_own_style(p).translation for p in systems[0]])
    translations = [
        _write(folder / f"system_{number}.txt", [str(p.translation_hypothesis) for p in of_system])
        for number, of_system in enumerate(systems)
    ]
    scores_json = folder / "scores.json"
    words = options.words
    command = [
        *words,
        *("-s", sources, "-r", references, "-t", *translations),
        *("--model", str(Path(options.model).resolve()) if Path(options.model).is_file() else options.model),
        *("--to_json", str(scores_json), "--only_system"),
        *(() if "--gpus" in words or _has_gpu() else ("--gpus", "0")),
    ]
    # What is on this process's path would come before what the program's own environment holds.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=False)
    if finished.returncode != 0:
        raise _failed(options, f"exit code {finished.returncode}; what it said stands above")
    return [_values(scores_json, file, len(systems[0]), options) for file in translations]


def _write(path: Path, texts: Sequence[str]) -> str:
    path.write_text("".join(f"{' '.join(text.split())}\n" for text in texts), encoding="utf-8", newline="\n")
    return str(path)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _values(scores_json: Path, file: str, num: int, options: CometOptions) -> list[float]:
    """The scores of one system: the file holds, by translations file, an object for each line."""
    try:
        rows = json.loads(scores_json.read_text(encoding="utf-8"))[file]
        values = [100 * float(row["COMET"]) for row in rows]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise _failed(options, f"no scores in the file that --to_json names ({error!r})") from None
    if len(values) != num or not all(map(math.isfinite, values)):
        raise _failed(options, f"{len(values)} numbers for {num} translations, or some that are none")
    return values


def _failed(options: CometOptions, found: str) -> VietstError:
    return VietstError(
        where=f"--comet {options.program!r}",
        rule="the program scores all translations with the model, and writes the scores down",
        found=found,
        do="run it alone with --help; all other scores are written, and --predictions with the predictions "
        "file adds COMET without decoding again",
    )
