"""Kaldi data folders: `wav.scp`, `text`, and where they are there `segments` and `utt2spk`.

With `segments`, utterances are pieces of their recordings, which are not cut. Commands in `wav.scp` (lines
that end with `|`) are refused: nothing of a folder is ever executed.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from vietst.data.audio_pieces import format_seconds
from vietst.data.importers.imported import ImportedRow, Refusal, path_in_root, seconds_of
from vietst.errors import ManifestError

USUAL_FILES: Final = {"transcript": "text", "speaker_id": "utt2spk"}
"""Manifest column → file with a line `UTTERANCE VALUE` for each utterance."""

_OPTIONAL: Final = ("speaker_id",)


class KaldiImporter:
    """A Kaldi data folder.

    Args:
        base: what relative paths in `wav.scp` count from; None: the current folder, as in Kaldi's recipes.
        columns: manifest column → file of the folder, such as `translation=text.vi`.
    """

    def __init__(
        self, folder: Path, *, data_root: Path, base: Path | None = None, columns: Mapping[str, str]
    ) -> None:
        self.source = str(folder)
        self._folder, self._data_root, self._base = folder, data_root, base or Path()
        usual = {
            column: name
            for column, name in USUAL_FILES.items()
            if column not in _OPTIONAL or (folder / name).is_file()
        }
        self._files = {**usual, **columns}
        self._has_segments = (folder / "segments").is_file()

    @property
    def columns(self) -> Sequence[str]:
        times = ["video_id", "start_s", "end_s"] if self._has_segments else []
        return ["id", *self._files, *times]

    def rows(self) -> Iterator[ImportedRow]:
        recordings = self._recordings()
        values = {column: self._table(name) for column, name in self._files.items()}
        heard = self._segments() if self._has_segments else dict.fromkeys(recordings, ("", "", ""))
        for utterance, (recording, start, end) in heard.items():
            content: Mapping[str, str] | Refusal
            try:
                if not values["transcript"].get(utterance):
                    raise Refusal("no_transcript", f"not in {self._files['transcript']}")
                of_row = {column: of_column.get(utterance, "") for column, of_column in values.items()}
                path = recordings.get(recording or utterance)
                if path is None:
                    raise Refusal("no_audio", f"recording {recording} is not in wav.scp")
                of_row |= {"id": utterance, "audio_path": path_in_root(path, self._base, self._data_root)}
                content = (_piece(recording, start, end) if self._has_segments else {}) | of_row
            except Refusal as refusal:
                content = refusal
            yield ImportedRow(utterance, content)
        where = "segments" if self._has_segments else "wav.scp"
        for utterance in values["transcript"]:
            if utterance not in heard:
                yield ImportedRow(utterance, Refusal("no_audio", f"not in {where}"))

    def _recordings(self) -> dict[str, str]:
        """Recording → path."""
        recordings = self._table("wav.scp")
        for name, path in recordings.items():
            if path.endswith("|") or path.startswith("|") or path == "-":
                self._refuse(
                    "wav.scp",
                    "it names audio files; commands in it are not executed",
                    f"{name}: {path}",
                    "run the commands yourself into files, and name these",
                )
        channels = self._folder / "reco2file_and_channel"
        if channels.is_file() and len(set(self._table(channels.name).values())) < len(recordings):
            self._refuse(
                channels.name,
                "a recording is a file: of several channels the mean is heard",
                "recordings that are channels of one file",
                "write each channel into a file of its own, and name these in wav.scp",
            )
        return recordings

    def _segments(self) -> dict[str, tuple[str, str, str]]:
        """Utterance → recording, start, end."""
        segments = {}
        for utterance, rest in self._table("segments").items():
            fields = rest.split()
            if len(fields) not in (3, 4):
                self._refuse(
                    "segments",
                    "a line is UTTERANCE RECORDING START END, in seconds",
                    f"{utterance} {rest}",
                    "correct the line",
                )
            segments[utterance] = (fields[0], fields[1], fields[2])
        return segments

    def _table(self, name: str) -> dict[str, str]:
        """First word of each line → the rest of it."""
        table: dict[str, str] = {}
        try:
            for line in (self._folder / name).read_text(encoding="utf-8-sig").split("\n"):
                key, _, value = line.strip().replace("\t", " ").partition(" ")
                if not key:
                    continue
                if key in table:
                    self._refuse(name, "every key stands there once", f"{key} twice", "take one line out")
                table[key] = value.strip()
        except OSError as error:
            self._refuse(
                name,
                "a Kaldi data folder has wav.scp and text, and the files that --columns names",
                error.strerror or str(error),
                "check the folder; texts of another file: --columns transcript=FILE translation=FILE",
            )
        except UnicodeDecodeError as error:
            self._refuse(name, "the text is UTF-8", str(error), "save it as UTF-8")
        return table

    def _refuse(self, name: str, rule: str, found: str, do: str) -> NoReturn:
        raise ManifestError(where=str(self._folder / name), rule=rule, found=found, do=do)


def _piece(recording: str, start: str, end: str) -> dict[str, str]:
    """The columns of a segment. An end of -1 is the recording's end, as in Kaldi."""
    start_s, end_s = seconds_of(start), None if end in ("-1", "-1.0") else seconds_of(end)
    if end_s is not None and end_s <= start_s:
        raise Refusal("bad_time", f"from {start} to {end}")
    return {
        "video_id": recording,
        "start_s": format_seconds(start_s),
        "end_s": "" if end_s is None else format_seconds(end_s),
    }
