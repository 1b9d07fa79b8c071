"""`rejected.tsv`: every manifest row that was removed or changed, with its line, the reason, how it was."""

from collections import Counter
from collections.abc import Mapping
from typing import Final, TextIO

from vietst.data.audio_paths import AUDIO_RULES
from vietst.data.records import format_record

TAKEN_DOWN: Final = "taken_down"

REMOVAL_REASONS: Final = {
    TAKEN_DOWN: "the takedown list (paths.takedown_path) does not name the row; its texts are left out here",
    "wrong_field_count": "the row has as many fields as the header",
    "empty_transcript": "the transcript holds words after cleaning",
    "empty_translation": "the translation holds words after cleaning",
    "no_video_id": "video_id_pattern finds the video in audio_path",
    **AUDIO_RULES,
    "too_short": "the clip is at least as long as the minimum",
    "too_long": "the clip is at most as long as the maximum",
    "duplicate_row": "no earlier row has this audio with the same texts",
    "conflicting_texts": "no earlier row has this audio with other texts",
    "audio_of_another_source": "no source before this one (data.sources) has the same audio",
    "audit": "the signals of an audit are not what --drop of scripts/audit_manifest.py drops",
}
"""Reason code of a removed row, and the rule that it breaks."""

CHANGE_REASONS: Final = {
    "text_cleaned": "tags, emphasis, invisible characters or surplus spaces taken out, or letters composed",
    "audio_path_normalized": "the path was respelled: slashes, or the Unicode form that the file's name has",
    "key_normalized": "surplus spaces in id, video_id, speaker_id or channel_id, or letters not composed",
    "verified_unclear": "verified says neither true, 1, yes nor false, 0, no: taken for not verified",
    "id_made_unique": "an earlier row has this id: a hash of audio_path was appended",
    "duration_corrected": "the stated duration disagrees with the audio, which wins",
    "truncated": "only the start of the clip is used, with its full text",
}
"""Reason code of a changed row, and what was done."""

REJECTED_COLUMNS: Final = (
    "line", "id", "audio_path", "action", "reason", "detail", "transcript", "translation", "duration",
)  # fmt: skip
_ORIGINAL_COLUMNS: Final = ("transcript", "translation", "duration")


class Journal:
    """Writes `rejected.tsv` while rows go by, and counts by reason.

    A row that was changed in several ways has a line for each; of a row that was removed only the removal is
    told. The texts and the duration stand there as the manifest had them, but for what was taken down.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._file.write(format_record(REJECTED_COLUMNS, "\t"))
        self.removed: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()

    def remove(self, line_number: int | str, original: Mapping[str, str], reason: str, detail: str) -> None:
        self.removed[_known(reason, REMOVAL_REASONS)] += 1
        self._write(line_number, original, "removed", reason, detail)

    def change(self, line_number: int | str, original: Mapping[str, str], reason: str, detail: str) -> None:
        self.changed[_known(reason, CHANGE_REASONS)] += 1
        self._write(line_number, original, "changed", reason, detail)

    def _write(
        self, line_number: int | str, original: Mapping[str, str], action: str, reason: str, detail: str
    ) -> None:
        values = [str(line_number), original.get("id", ""), original.get("audio_path", "")]
        shown = {} if reason == TAKEN_DOWN else original
        values += [action, reason, detail, *(shown.get(column, "") for column in _ORIGINAL_COLUMNS)]
        self._file.write(format_record(values, "\t"))


def _known(reason: str, reasons: Mapping[str, str]) -> str:
    if reason not in reasons:
        raise KeyError(f"{reason} has no entry in the table of reasons")
    return reason
