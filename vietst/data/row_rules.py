"""What is done to one manifest row: texts cleaned, path and keys brought to one spelling, audio compared."""

import contextlib
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from vietst.data.audio import AudioFacts
from vietst.data.audio_paths import normalize_audio_path
from vietst.data.audio_pieces import format_seconds
from vietst.data.sources import LANGUAGE_COLUMN, SOURCE_COLUMN
from vietst.data.takedown_list import Takedown
from vietst.data.verified import VERIFIED_COLUMN, format_verified
from vietst.data.video_ids import video_id_by_pattern, video_id_of
from vietst.errors import ConfigError, ManifestError
from vietst.text import clean_text

if TYPE_CHECKING:
    from vietst.config_schema import RunConfig

TRUNCATED_COLUMN: Final = "truncated_to_s"
"""Only with `too_long="truncate"`: how many seconds from the start are used; empty where all are."""

_LANGUAGE_CODE: Final = re.compile(r"[a-z]{2}(_[A-Z]{2})?|haw|yue")
"""ISO 639-1, with mBART-50's regions; of three letters Whisper knows Hawaiian and Cantonese alone."""

_KEY_COLUMNS: Final = ("id", "video_id", "speaker_id", "channel_id")
_DURATION_TOLERANCE_S: Final = 0.1
_DURATION_TOLERANCE_SHARE: Final = 0.02


@dataclass(frozen=True)
class PreprocessOptions:
    """What is kept. The defaults are those of the shipped base configuration."""

    min_duration_s: float = 0.5
    max_duration_s: float = 30.0
    too_long: Literal["reject", "truncate"] = "reject"
    """truncate: the row stays with its full text, only the first `max_duration_s` of its audio are used."""
    require_translation: bool = True
    video_id_pattern: str | None = None
    """Regular expression for rows without `video_id`; None: `video_ids.video_id_of`."""
    languages: Mapping[str, str] = field(default_factory=dict)
    """Of the transcripts of a source that states one, by its name."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_duration_s < self.max_duration_s < math.inf:
            raise ConfigError(
                where="min_duration_s, max_duration_s",
                rule="0 <= min_duration_s < max_duration_s, in seconds",
                found=f"{self.min_duration_s} and {self.max_duration_s}",
                do="change one of them",
            )

    @classmethod
    def from_config(cls, config: "RunConfig", **overrides: Any) -> "PreprocessOptions":
        """The options of a configuration; an override that is None leaves the configuration's value."""
        values = {
            "min_duration_s": config.data.min_duration_s,
            "max_duration_s": config.audio.max_length_seconds,
            "too_long": config.data.too_long,
            "require_translation": config.data.require_translation,
            "video_id_pattern": config.data.video_id_pattern,
            "languages": {
                name: source.language for name, source in config.data.sources.items() if source.language
            },
        }
        return cls(**values | {name: value for name, value in overrides.items() if value is not None})


@dataclass
class Row:
    """One manifest row on its way."""

    line_number: int | str
    """In the manifest's file; of several sources `SOURCE:NUMBER`."""
    original: dict[str, str]
    values: dict[str, str]
    changes: list[tuple[str, str]] = field(default_factory=list)
    """(reason code, detail)"""


class Removal(Exception):  # noqa: N818 - a verdict on a row, not an error
    """The row cannot be used. `reason` is a code of `rejections.REMOVAL_REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def clean_texts(row: Row, options: PreprocessOptions) -> None:
    """Cleans transcript and translation; raises Removal if nothing is left of them."""
    cleaned = []
    for column in ("transcript", "translation"):
        before = row.values.get(column, "")
        row.values[column] = after = clean_text(before)
        if after != before:
            cleaned.append(column)
        if not after and (column == "transcript" or options.require_translation):
            raise Removal(f"empty_{column}", "nothing left after cleaning" if before else "empty")
    if cleaned:
        row.changes.append(("text_cleaned", ", ".join(cleaned)))


def fill_language(row: Row, options: PreprocessOptions) -> None:
    """Sets `language` to that of the row's source, where it does not say one itself.

    Raises:
        ManifestError: no code of a language. Training would refuse it too, but after the features were built;
            and to read it as the model's own language would teach wrong prompts.
    """
    if LANGUAGE_COLUMN not in row.values and not options.languages:
        return
    stated = row.values.get(LANGUAGE_COLUMN, "").strip()
    language = stated or options.languages.get(row.values.get(SOURCE_COLUMN, ""), "")
    if language and not _LANGUAGE_CODE.fullmatch(language):
        raise ManifestError(
            where=f"the manifest's line {row.line_number}, column {LANGUAGE_COLUMN}",
            rule="empty, or the code of the transcript's language as decoders know it: vi, en, vi_VN",
            found=repr(language),
            do="correct it (or data.sources.NAME.language); if the column says something else, rename it",
        )
    row.values[LANGUAGE_COLUMN] = language


def clean_keys(row: Row, pattern: re.Pattern[str] | None) -> bool:
    """Cleans path, ids, keys and `verified`, fills `video_id`; returns whether it came from the path."""
    path = normalize_audio_path(row.values["audio_path"])
    if path != row.values["audio_path"]:
        row.changes.append(("audio_path_normalized", f"now {path}"))
    row.values["audio_path"] = path
    for column in _KEY_COLUMNS:
        before = row.values.get(column, "")
        row.values[column] = after = " ".join(unicodedata.normalize("NFC", before).split())
        if after != before:
            row.changes.append(("key_normalized", f"{column}: now {after!r}"))
    _clean_verified(row)
    if row.values["video_id"]:
        return False
    video_id = video_id_by_pattern(path, pattern) if pattern else video_id_of(path)
    if video_id is None:
        raise Removal("no_video_id", "video_id_pattern does not match audio_path")
    row.values["video_id"] = unicodedata.normalize("NFC", video_id)
    return True


def taken_down_by(
    original: Mapping[str, str], takedown: Takedown, pattern: re.Pattern[str] | None
) -> str | None:
    """The entry of the takedown list that names a manifest's row as it stands; None: none does."""
    if not takedown:
        return None
    row = Row(0, {}, {"audio_path": "", **original})
    with contextlib.suppress(Removal):
        clean_keys(row, pattern)
    return takedown.entry_for(row.values)


def _clean_verified(row: Row) -> None:
    before = row.values.get(VERIFIED_COLUMN, "")
    if before:
        row.values[VERIFIED_COLUMN] = after = format_verified(before)
        if before.strip() and not after:
            row.changes.append(("verified_unclear", f"it says {before!r}"))


def apply_audio(row: Row, facts: AudioFacts, options: PreprocessOptions) -> None:
    """Sets `duration` from the audio; raises Removal if it is too short or too long."""
    stated, measured_s = row.values.get("duration", "").strip(), facts.duration_s
    if stated and _disagree(stated, measured_s):
        row.changes.append(("duration_corrected", f"stated {stated}, measured {format_seconds(measured_s)}"))
    if measured_s < options.min_duration_s:
        raise Removal(
            "too_short",
            f"{format_seconds(measured_s)} s, at least {format_seconds(options.min_duration_s)} s",
        )
    row.values["duration"] = format_seconds(measured_s)
    if options.too_long == "truncate":
        row.values[TRUNCATED_COLUMN] = ""
    if measured_s > options.max_duration_s:
        limit = format_seconds(options.max_duration_s)
        if options.too_long == "reject":
            raise Removal("too_long", f"{format_seconds(measured_s)} s, at most {limit} s")
        row.changes.append(("truncated", f"{format_seconds(measured_s)} s, used {limit} s"))
        row.values["duration"] = row.values[TRUNCATED_COLUMN] = limit


def _disagree(stated: str, measured_s: float) -> bool:
    """More than 0.1 s and more than 2 % apart (what rounding explains), or no number at all."""
    try:
        difference_s = abs(float(stated) - measured_s)
    except ValueError:
        return True
    tolerance_s = max(_DURATION_TOLERANCE_S, _DURATION_TOLERANCE_SHARE * measured_s)
    return math.isnan(difference_s) or difference_s > tolerance_s
