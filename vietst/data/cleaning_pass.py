"""One pass over a manifest: cleans row by row, compares with the audio and with the rows before."""

import hashlib
import itertools
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vietst.data.audio import AudioFacts
from vietst.data.audio_facts import AudioFactsFile
from vietst.data.audio_pieces import locator_of, split_locator
from vietst.data.rejections import TAKEN_DOWN, Journal
from vietst.data.row_rules import (
    TRUNCATED_COLUMN,
    PreprocessOptions,
    Removal,
    Row,
    apply_audio,
    clean_keys,
    clean_texts,
    fill_language,
    taken_down_by,
)
from vietst.data.sources import LANGUAGE_COLUMN, SOURCE_COLUMN, JoinedTables
from vietst.data.tables import Table
from vietst.data.takedown_list import Takedown
from vietst.data.video_ids import compile_video_id_pattern
from vietst.errors import AudioError

if TYPE_CHECKING:
    from tqdm import tqdm

STANDARD_COLUMNS: Final = (
    "id", "audio_path", "transcript", "translation", "duration", "video_id", "speaker_id", "channel_id",
)  # fmt: skip

_ROWS_AT_ONCE: Final = 4096
"""Rows in memory."""


class CleaningPass:
    """Rows go by in groups, so that memory holds little more than what tells rows apart.

    The public attributes are counts, complete once `kept_rows` has run to its end.
    """

    def __init__(
        self,
        table: Table | JoinedTables,
        audio_root: Path,
        options: PreprocessOptions,
        facts_file: AudioFactsFile,
        takedown: Takedown,
    ) -> None:
        self.table, self._audio_root, self._options = table, audio_root, options
        self._facts_file, self._takedown = facts_file, takedown
        pattern = options.video_id_pattern
        self._pattern = compile_video_id_pattern(pattern) if pattern is not None else None
        added = STANDARD_COLUMNS + ((TRUNCATED_COLUMN,) if options.too_long == "truncate" else ())
        added += (LANGUAGE_COLUMN,) if options.languages else ()
        self.columns_out = [*added, *(column for column in table.columns if column not in added)]
        """Standard columns first, the others in the manifest's order."""
        self._line_of_audio: dict[int, int | str] = {}
        self._texts_of_audio: set[int] = set()
        self._ids: set[str] = set()
        self._source_of_digest: dict[str, str] = {}
        self.num_rows = self.num_kept = self.num_same_bytes = self.num_video_ids_from_path = 0
        self.num_durations_filled = 0
        self.hours_in = self.hours_out = 0.0
        self.video_ids: Counter[str] = Counter()

    def kept_rows(self, journal: Journal, num_threads: int, progress: bool) -> Iterator[dict[str, str]]:
        """Yields the cleaned rows in the manifest's order; tells `journal` the rest."""
        from tqdm import tqdm

        records: Iterator[tuple[int | str, dict[str, str], str]] = iter(self.table.named_records())
        num_lines = self.table.num_data_lines
        with tqdm(total=num_lines, desc="measure audio", unit=" files", disable=not progress) as bar:
            while group := list(itertools.islice(records, _ROWS_AT_ONCE)):
                rows = [row for record in group if (row := self._clean(*record, journal))]
                bar.update(len(group) - len(rows))
                for row, facts in zip(rows, self._measure(rows, num_threads, bar), strict=True):
                    if self._finish(row, facts, journal):
                        yield row.values
        self._facts_file.save()

    def _clean(
        self, line_number: int | str, original: dict[str, str], fault: str, journal: Journal
    ) -> Row | None:
        """Everything that needs no audio."""
        self.num_rows += 1
        row = Row(line_number, original, dict(original))
        try:
            self._refuse_taken_down(taken_down_by(original, self._takedown, self._pattern))
            if fault:
                raise Removal("wrong_field_count", fault)
            clean_texts(row, self._options)
            fill_language(row, self._options)
            self.num_video_ids_from_path += clean_keys(row, self._pattern)
            locator_of(row.values)
        except Removal as removal:
            journal.remove(line_number, original, removal.reason, removal.detail)
            self.hours_in += _stated_hours(original)
            return None
        except AudioError as error:
            journal.remove(line_number, original, error.code, error.found)
            self.hours_in += _stated_hours(original)
            return None
        return row

    def _measure(
        self, rows: list[Row], num_threads: int, bar: "tqdm[object]"
    ) -> list[AudioFacts | AudioError]:
        measure_all = self._facts_file.measure_all
        locators = [locator_of(row.values) for row in rows]
        results = list(measure_all(self._audio_root, locators, num_threads=num_threads, bar=bar))
        # Names with accents come composed or decomposed, depending on the system that packed them.
        others = {
            index: other
            for index, (locator, result) in enumerate(zip(locators, results, strict=True))
            if _is_missing(result) and (other := _other_unicode_form(locator))
        }
        if others:
            second_try = measure_all(self._audio_root, list(others.values()))
            for (index, locator), result in zip(others.items(), second_try, strict=True):
                if not _is_missing(result):
                    results[index] = result
                    rows[index].values["audio_path"] = path = split_locator(locator)[0]
                    rows[index].changes.append(
                        ("audio_path_normalized", f"now {path}, as the file is called")
                    )
        return results

    def _finish(self, row: Row, facts: AudioFacts | AudioError, journal: Journal) -> bool:
        """Everything that needs the audio, and the other rows. Returns whether the row is kept."""
        if isinstance(facts, AudioError):
            journal.remove(row.line_number, row.original, facts.code, facts.found)
            self.hours_in += _stated_hours(row.original)
            return False
        self.hours_in += facts.duration_s / 3600
        try:
            was_stated = bool(row.values.get("duration", "").strip())
            apply_audio(row, facts, self._options)
            self._refuse_repetition(row)
            self._refuse_audio_of_another_source(row, facts)
            self._make_id_unique(row)
            self._refuse_taken_down(self._takedown.entry_for(row.values))
        except Removal as removal:
            journal.remove(row.line_number, row.original, removal.reason, removal.detail)
            return False
        for reason, detail in row.changes:
            journal.change(row.line_number, row.original, reason, detail)
        self.num_kept += 1
        self.num_durations_filled += not was_stated
        self.num_same_bytes += facts.digest in self._source_of_digest
        self._source_of_digest.setdefault(facts.digest, row.values.get(SOURCE_COLUMN, ""))
        self.hours_out += float(row.values["duration"]) / 3600
        self.video_ids[row.values["video_id"]] += 1
        return True

    def _refuse_taken_down(self, entry: str | None) -> None:
        if entry is not None:
            raise Removal(TAKEN_DOWN, f"{entry!r} in {self._takedown.path}")

    def _refuse_repetition(self, row: Row) -> None:
        values, locator = row.values, locator_of(row.values)
        audio = _hash_of(locator)
        texts = _hash_of(locator, values["transcript"], values["translation"])
        first_line = self._line_of_audio.setdefault(audio, row.line_number)
        if first_line != row.line_number:
            reason = "duplicate_row" if texts in self._texts_of_audio else "conflicting_texts"
            raise Removal(reason, f"line {first_line} has this audio")
        self._texts_of_audio.add(texts)

    def _refuse_audio_of_another_source(self, row: Row, facts: AudioFacts) -> None:
        """Within a source it is only counted; between two it would be heard more often than weights say, and
        under two names it might get into two splits."""
        source = row.values.get(SOURCE_COLUMN, "")
        first = self._source_of_digest.get(facts.digest, source)
        if first != source:
            raise Removal("audio_of_another_source", f"the same bytes are in {first}")

    def _make_id_unique(self, row: Row) -> None:
        """Fills `id` with the locator where there is none; a repeated one gets a hash of that behind it."""
        values, locator = row.values, locator_of(row.values)
        given = values["id"] = values["id"] or unicodedata.normalize("NFC", locator)
        while values["id"] in self._ids:
            values["id"] = f"{given}-{_hash_of(values['id'], locator) >> 32:08x}"
        self._ids.add(values["id"])
        if values["id"] != given:
            row.changes.append(("id_made_unique", f"now {values['id']}"))


def _is_missing(result: AudioFacts | AudioError) -> bool:
    return isinstance(result, AudioError) and result.code == "audio_missing"


def _hash_of(*texts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest(), "big")


def _other_unicode_form(locator: str) -> str | None:
    forms = {unicodedata.normalize("NFC", locator), unicodedata.normalize("NFD", locator)} - {locator}
    return min(forms, default=None)


def _stated_hours(original: dict[str, str]) -> float:
    try:
        duration_s = float(original.get("duration", ""))
    except ValueError:
        return 0.0
    return duration_s / 3600 if math.isfinite(duration_s) and duration_s > 0 else 0.0
