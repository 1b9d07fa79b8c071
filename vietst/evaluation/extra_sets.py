"""Extra evaluation sets: speech that training should not make worse, such as plain Vietnamese and English.

They are transcribed and scored beside dev. Their features are computed from the audio when a batch needs
them, not cached: a set is a few hundred clips, and reading one takes milliseconds beside the generation of
its text. So a set may be added at any time without building anything, and is no part of features that are
pushed.
"""

import random
import unicodedata
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vietst.config_schema import EvaluationSection, ExtraSetSection
from vietst.constants import TRANSCRIBE
from vietst.data.audio import AudioFacts, measure_audio
from vietst.data.audio_paths import resolve_audio_path
from vietst.data.audio_pieces import PIECE_COLUMNS, locator_of, piece_of
from vietst.data.feature_plan import Digest
from vietst.data.features import InputKind
from vietst.data.tables import read_table
from vietst.data.usable_rows import usable_rows
from vietst.errors import AudioError, ConfigError, ModelError
from vietst.models.architectures import Architecture
from vietst.text_style import TextStyle, styled

_NUM_ERRORS_SHOWN: Final = 3


@dataclass(frozen=True)
class ExtraSet:
    """The utterances of a set that are scored, the longest first.

    `rows` hold what `decode.decode_rows` reads; `language` is the decoder prompt's; `digest` tells whether
    two scores are of the same audio, transcripts and prompt.
    """

    name: str
    language: str
    audio_root: Path
    rows: list[dict[str, Any]]
    digest: str


@dataclass(frozen=True)
class SetReader:
    """Opens the extra sets of a configuration for a model.

    `language` and `data_root` are for the sets that state none of their own; `seed` draws the sample;
    `text_style` is the model's, in which transcripts are scored.
    """

    evaluation: EvaluationSection
    language: str
    data_root: Path
    seed: int
    architecture: Architecture
    tokenizer: Any
    max_label_length: int
    input_kind: InputKind
    text_style: TextStyle

    def read_all(self) -> tuple[list[ExtraSet], list[dict[str, Any]]]:
        """The sets, and the rows of their samples that the model cannot use.

        Returns:
            The second as `split` (the set's name), `id`, `reason`, `detail`.

        Raises:
            VietstError: a file, an audio file or a language that is not there.
        """
        sets, rejected = [], []
        for name, section in self.evaluation.extra_sets.items():
            extra_set, left_out = self._read(name, section)
            sets.append(extra_set)
            rejected += [{"split": name, **row} for row in left_out]
        return sets, rejected

    def _read(self, name: str, section: ExtraSetSection) -> tuple[ExtraSet, list[dict[str, Any]]]:
        where = f"evaluation.extra_sets.{name}"
        language = section.language or self.language
        self._require_language(where, language)
        table = read_table(section.path, ("audio_path", "transcript"), if_missing=f"correct {where}.path")
        sample, limit = table, self.evaluation.max_extra_utterances
        if limit is not None and len(table) > limit:
            sample = random.Random(self.seed).sample(table, limit)
        audio_root = self.data_root if section.audio_root is None else section.audio_root
        facts = _measure_all(where, audio_root, sample)
        rows = [
            _as_split_row(row, of_audio, self.text_style) for row, of_audio in zip(sample, facts, strict=True)
        ]
        usable, rejected = usable_rows(
            [{**row, "duration_s": row["duration"]} for row in rows],
            (TRANSCRIBE,),
            self.architecture.label_lengths,
            self.tokenizer,
            self.max_label_length,
            self.input_kind,
        )
        if not usable:
            raise ConfigError(
                where=f"{where}.path {section.path}",
                rule="at least one utterance with a transcript that fits the model",
                found=f"none of {len(rows)}: {rejected[0]['reason']} ({rejected[0]['detail']})",
                do="name another file, or take the set out",
            )
        usable.sort(key=lambda position: (-rows[position]["duration"], position))
        digest = Digest([language, *([facts[p].digest, rows[p]["transcript"]] for p in usable)]).hexdigest()
        return ExtraSet(name, language, audio_root, [rows[p] for p in usable], digest), rejected

    def _require_language(self, where: str, language: str) -> None:
        try:
            self.architecture.decoder_prompt(self.tokenizer, TRANSCRIBE, language)
        except ModelError as error:
            raise ConfigError(
                where=f"{where}.language",
                rule=error.rule,
                found=f"{language!r}: {error.found}",
                do="correct it, or leave it out: model.language holds then",
            ) from error


def _as_split_row(row: Mapping[str, str], facts: AudioFacts, text_style: TextStyle) -> dict[str, Any]:
    """A row as split files have it, to be transcribed only."""
    return {
        "id": row.get("id") or locator_of(row),
        "video_id": row.get("video_id") or row["audio_path"],
        "audio_path": row["audio_path"],
        **{column: row[column] for column in PIECE_COLUMNS if column in row},
        "transcript": styled(unicodedata.normalize("NFC", row["transcript"]).strip(), text_style),
        "translation": "",
        "duration": facts.duration_s,
    }


def _measure_all(where: str, audio_root: Path, rows: Sequence[Mapping[str, str]]) -> list[AudioFacts]:
    """Decode all audio once, so that none turns out to be missing hours later.

    Raises:
        ConfigError: some cannot be used.
    """

    def measure(row: Mapping[str, str]) -> AudioFacts | AudioError:
        try:
            return measure_audio(resolve_audio_path(audio_root, row["audio_path"]), piece_of(row))
        except AudioError as error:
            return error

    with ThreadPoolExecutor() as pool:  # decoding releases Python's lock
        results = list(pool.map(measure, rows))
    errors = [result for result in results if isinstance(result, AudioError)]
    if errors:
        shown = "; ".join(
            f"{error.where}: {error.code} ({error.found})" for error in errors[:_NUM_ERRORS_SHOWN]
        )
        raise ConfigError(
            where=f"{where}: {len(errors)} of {len(rows)} audio files, below {audio_root}",
            rule="every utterance of an extra set has audio that can be read",
            found=shown + (" …" if len(errors) > _NUM_ERRORS_SHOWN else ""),
            do=f"correct {where}.audio_root, or take these rows out of {where}.path",
        )
    return [result for result in results if isinstance(result, AudioFacts)]
