"""`datasets` datasets, of the Hub or of a folder. Their audio is written as files, as it is, never decoded.

Other sounds, pictures and the like are left out. Since nothing is decoded, torchcodec is not needed; only
folders of audio files with a `metadata.csv` cannot be opened without it, and these are tables already
(`timed_table`).
"""

import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from vietst.data.importers.imported import (
    ImportedRow,
    Refusal,
    chosen_columns,
    path_in_root,
    require_columns,
)
from vietst.data.importers.nemo import text_of
from vietst.errors import ManifestError
from vietst.full_disk import full_disk_error, is_full_disk
from vietst.hub_access import HUB_ERRORS, refusal
from vietst.runtime import get_logger

USUAL_FIELDS: Final = {
    "audio_path": ("audio",),
    "transcript": ("transcript", "transcription", "sentence", "text"),
    "translation": ("translation",),
}
"""Manifest column → fields that hold it, the first that is there."""

_SAVED_MARKS: Final = ("dataset_dict.json", "state.json")
"""Files of a folder that `save_to_disk` wrote."""
_SUFFIXES_BY_MAGIC: Final = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3"}
_NOT_IN_NAMES: Final = re.compile(r'[<>:"|?*\x00-\x1f]')

_logger = get_logger(__name__)


@dataclass(frozen=True)
class DatasetOptions:
    """What of a dataset is imported, and where its audio goes."""

    audio_dir: Path
    """Below the data root. Clips are written into `clips` there, under their names."""
    subset: str | None = None
    """What `datasets` calls the name of a configuration."""
    split: str | None = None
    """May be a sum, as train+validation."""
    revision: str | None = None
    streaming: bool = False
    """Read row by row over the network, without a copy in the Hub's cache."""


class DatasetImporter:
    """A `datasets` dataset: a Hub id, a folder of `save_to_disk`, or a folder of data files.

    Args:
        base: what paths in a text field count from; None: `data_root`.
        columns: manifest column → field, where they are not the usual ones.

    Raises:
        ManifestError: it cannot be opened.
    """

    def __init__(
        self,
        name: str,
        options: DatasetOptions,
        *,
        data_root: Path,
        base: Path | None = None,
        columns: Mapping[str, str],
    ) -> None:
        self.source = name
        self._options, self._data_root, self._base = options, data_root, base or data_root
        self._is_of_hub = not Path(name).exists()
        rows = _undecoded(_opened(name, options))
        with _told(name):
            features = rows.features or dict.fromkeys(next(iter(rows), {}))
        audio_field = columns.get("audio_path", USUAL_FIELDS["audio_path"][0])
        others = [field for field in features if field != audio_field and _holds_bytes(features[field])]
        self._rows = rows.remove_columns(others) if others else rows
        available = [field for field in features if field not in others]
        usual = {
            column: next((field for field in fields if field in available), fields[0])
            for column, fields in USUAL_FIELDS.items()
        }
        self._fields = chosen_columns(usual, columns, available, name)
        require_columns(self._fields, name, list(features))
        self._labels: dict[str, Any] = {
            field: feature for field, feature in features.items() if hasattr(feature, "int2str")
        }
        self._num_of_name: Counter[str] = Counter()
        if "video_id" not in self._fields:
            _logger.warning(
                "no field says which recording a row was cut from: cleaning will guess it from files' names; "
                "better name it: --columns video_id=FIELD (or speaker_id=FIELD)"
            )

    @property
    def columns(self) -> Sequence[str]:
        return list(self._fields)

    def rows(self) -> Iterator[ImportedRow]:
        with _told(self.source):
            for number, row in enumerate(self._rows):
                content: Mapping[str, str] | Refusal
                try:
                    content = self._values(row, number)
                except Refusal as refused:
                    content = refused
                yield ImportedRow(f"row {number}", content)

    def _values(self, row: Mapping[str, Any], number: int) -> dict[str, str]:
        values = {column: self._text(field, row.get(field)) for column, field in self._fields.items()
                  if column != "audio_path"}  # fmt: skip
        if not values["transcript"].strip():
            raise Refusal("no_transcript", f"{self._fields['transcript']} is empty")
        return {"audio_path": self._audio(row.get(self._fields["audio_path"]), number), **values}

    def _text(self, field: str, value: Any) -> str:
        if field in self._labels and isinstance(value, int) and value >= 0:
            return str(self._labels[field].int2str(value))
        return text_of(value)

    # --- audio --------------------------------------------------------------------------------------------

    def _audio(self, value: Any, number: int) -> str:
        """The path of a row's audio; what is no file below the data root yet becomes one."""
        if isinstance(value, str):
            return path_in_root(value, self._base, self._data_root)
        if not isinstance(value, Mapping):
            raise Refusal("no_audio", "nothing" if value is None else type(value).__name__)
        name, content = value.get("path") or "", value.get("bytes")
        if content is None and name and self._is_of_hub and not _came_along(name):
            raise Refusal("no_audio", f"{name}: a file of this machine, not of the dataset")
        if content is None and name and Path(name).is_file():
            try:
                return path_in_root(name, Path(), self._data_root)
            except Refusal:
                content = Path(name).read_bytes()
        if content is None and name:
            try:
                content = _read_remote(name)
            except FileNotFoundError as error:
                raise Refusal("no_audio", f"{name} is not there") from error
        if content is None and value.get("array") is not None and value.get("sampling_rate"):
            name, content = "", _as_wav(value["array"], value["sampling_rate"])
        if not content:
            raise Refusal("no_audio", "0 bytes")
        return self._written(name, content, number)

    def _written(self, name: str, content: bytes, number: int) -> str:
        """Writes a clip under its name; the second of a name into a folder `part2`, and so on. Names that
        differ in case, or in how letters are composed, are one: they are on Windows and macOS."""
        name = _NOT_IN_NAMES.sub("_", PurePosixPath(name.replace("\\", "/")).name)
        if not PurePosixPath(name).suffix:
            magic = (suffix for start, suffix in _SUFFIXES_BY_MAGIC.items() if content.startswith(start))
            name = f"{name or f'{number:08d}'}{next(magic, '.mp3')}"
        key = unicodedata.normalize("NFC", name).casefold()
        self._num_of_name[key] += 1
        folder = self._options.audio_dir / "clips"
        if self._num_of_name[key] > 1:
            folder /= f"part{self._num_of_name[key]}"
        path = folder / name
        audio_path = path_in_root(str(path), Path(), self._data_root)
        if path.is_file() and path.read_bytes() == content:
            return audio_path
        if path.exists():
            raise ManifestError(
                where=str(path),
                rule="an import writes new audio files",
                found="another file of this name",
                do="name another --audio_dir, or delete this one",
            )
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".tmp-{path.name}")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return audio_path


def _opened(name: str, options: DatasetOptions) -> Any:
    import datasets

    if Path(name).is_file():  # that would be looked for on the Hub
        raise ManifestError(
            where=name,
            rule="a dataset is named by its Hub id, or is a folder",
            found="a file",
            do="name the folder that it lies in; JSON lines and tables have importers: nemo, table",
        )
    # The Hub alone is asked: nothing is counted elsewhere, and no viewer's copy looked for.
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = datasets.config.USE_PARQUET_EXPORT = False
    with _told(name):
        if any((Path(name) / mark).is_file() for mark in _SAVED_MARKS):
            opened: Any = datasets.load_from_disk(name)
            if options.split is not None and isinstance(opened, datasets.DatasetDict):
                parts = options.split.split("+")
                if all(part in opened for part in parts):
                    return datasets.concatenate_datasets([opened[part] for part in parts])
        else:
            opened = datasets.load_dataset(
                name,
                options.subset,
                split=options.split,
                revision=options.revision,
                streaming=options.streaming,
            )
    if isinstance(opened, Mapping):
        raise ManifestError(
            where=name,
            rule="--split says which of its splits are imported",
            found=f"there are: {', '.join(map(str, opened))}",
            do=f"for example --split {'+'.join(map(str, opened))}",
        )
    return opened


def _undecoded(rows: Any) -> Any:
    from datasets import Audio

    for field, feature in (rows.features or {}).items():
        if isinstance(feature, Audio):
            rows = rows.cast_column(field, Audio(decode=False))
    return rows


def _holds_bytes(feature: Any) -> bool:
    """Sounds, pictures, videos: no text for a table."""
    return hasattr(feature, "decode_example") or "binary" in str(getattr(feature, "dtype", ""))


class _told:  # noqa: N801 - reads as the words of a with statement
    """What `datasets` raises, in words."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        from datasets.exceptions import DatasetsError

        if not isinstance(error, (*HUB_ERRORS, DatasetsError, ImportError)):
            return
        for cause in (error, error.__cause__):
            if isinstance(cause, Exception) and is_full_disk(cause):
                raise full_disk_error(
                    cause,
                    self._name,
                    ManifestError,
                    rule="the disk has room for what datasets downloads and for the audio that is written",
                    do="free some space, and run the same command again; --streaming keeps no copy of it all",
                ) from error
        found, do = refusal(error) or (str(error), "check the name, --subset, --split and --revision")
        if "torchcodec" in f"{error} {error.__cause__}":
            found, do = (
                "a folder of audio files, which datasets opens with torchcodec alone",
                "import its table: import_manifest.py table metadata.csv --columns audio_path=file_name "
                "--paths_from THE_FOLDER",
            )
        raise ManifestError(
            where=self._name, rule="datasets opens it and reads its rows", found=found, do=do
        ) from error


def _came_along(path: str) -> bool:
    """Whether a file that a dataset of the Hub names is remote, or in a cache of what was downloaded."""
    import datasets
    from huggingface_hub import constants

    place = path.rpartition("::")[2]  # of a member of an archive, where the archive lies
    if "://" in place:
        return place.startswith(("hf://", "https://", "http://"))
    caches = map(Path, (datasets.config.HF_DATASETS_CACHE, constants.HF_HUB_CACHE))
    return any(Path(place).resolve().is_relative_to(cache.resolve()) for cache in caches)


def _read_remote(path: str) -> bytes:
    from datasets.utils.file_utils import xopen

    with xopen(path, "rb") as file:
        content: bytes = file.read()
    return content


def _as_wav(samples: Sequence[float], rate_hz: int) -> bytes:
    import numpy as np
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples, np.float32), rate_hz, format="WAV", subtype="FLOAT")
    return file.getvalue()
