"""What a model that exists already says of the rows: what it hears, and how probable it finds their texts.

All of it comes from one pass of the encoder: hypotheses for every task the model was trained for, and the
log-probabilities of these and of the given texts, teacher-forced.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from vietst.audit.edge_errors import edge_errors
from vietst.audit.rows import AuditRow, Block
from vietst.audit.signals import MODEL_SIGNALS, format_number
from vietst.constants import SAMPLE_RATE_HZ, TARGET_COLUMN, TRANSCRIBE, TRANSLATE
from vietst.data.audio import load_utterance
from vietst.data.batching import pad_token_ids
from vietst.data.tables import write_table
from vietst.errors import AudioError
from vietst.evaluation.decode import TextDecoder, cut_at_own_cap, feature_row, max_new_tokens
from vietst.evaluation.score_counts import chrf_counts
from vietst.full_memory import is_out_of_memory
from vietst.inference.batches import batch_budget_s, batches_by_length
from vietst.inference.clip_decoder import hypothesis_lengths, load_clip_decoder
from vietst.models.loading import model_version
from vietst.models.log_probabilities import log_probabilities
from vietst.models.shared_states import SharedStatesCache
from vietst.text_style import styled

COLUMNS: Final = ("id", *(signal.name for signal in MODEL_SIGNALS))
_VERSION: Final = 1
"""Goes up when a signal of the model would get another value."""
_DECODINGS_OF_A_TASK: Final = 2
"""What is generated, and what is given."""


def stage_settings(name: str) -> dict[str, Any]:
    """All that decides over a model's signals besides rows and audio, without loading its weights.

    Raises:
        ModelError: no such folder or repository.
    """
    return {"stage": "model", "version": _VERSION, "model_version": model_version(name)}


@dataclass(frozen=True)
class _Judged:
    """One clip and task."""

    text: str
    """What the model says."""
    log_probability: float
    """Of that."""
    given_log_probability: float | None
    """None: no text is given, or one that is longer than the model's decoder."""


class SeedModel:
    """A model that was trained here, or a stock Whisper, which is asked for transcripts only.

    Raises:
        ModelError: nothing usable there.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        """Loads the model.

        Args:
            settings: its `stage_settings`, which name the files of its blocks.
        """
        self._settings = settings
        self._decoder = load_clip_decoder(name)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it is asked for."""
        return self._decoder.record.tasks

    @property
    def window_s(self) -> float:
        """Longer clips are not judged."""
        return self._decoder.input_kind.window_s

    def judge_blocks(self, blocks: Iterable[Block], folder: Path, *, audio_root: Path) -> Iterator[int]:
        """Writes the signals of the blocks that are not there yet; yields the number of rows of each.

        The audio of the next block is read meanwhile.
        """
        missing = (block for block in blocks if not block.path(folder, self._settings).is_file())
        for block, waveforms in _with_waveforms(missing, audio_root):
            write_table(block.path(folder, self._settings), self._cells(block.rows, waveforms), COLUMNS)
            yield len(block.rows)

    def _cells(self, rows: Sequence[AuditRow], waveforms: Mapping[int, np.ndarray]) -> list[dict[str, str]]:
        heard = [
            position
            for position, waveform in waveforms.items()
            if len(waveform) <= self._decoder.input_kind.num_window_samples
        ]
        costs_s = [self._decoder.cost_s(len(waveforms[position]) / SAMPLE_RATE_HZ) for position in heard]
        budget_s = batch_budget_s(self._decoder, _DECODINGS_OF_A_TASK * len(self.tasks))
        cells = [dict.fromkeys(COLUMNS, "") | {"id": row.id} for row in rows]
        for batch in batches_by_length(costs_s, budget_s, of_equal_costs=self._decoder.hears_windows):
            positions = [heard[index] for index in batch]
            judged = self._judged([rows[p] for p in positions], [waveforms[p] for p in positions])
            for position, by_task in zip(positions, judged, strict=True):
                duration_s = len(waveforms[position]) / SAMPLE_RATE_HZ
                cells[position] |= self._signals(rows[position], by_task, duration_s)
        return cells

    def _judged(self, rows: Sequence[AuditRow], waveforms: Sequence[np.ndarray]) -> list[dict[str, _Judged]]:
        """One batch, or in halves where the GPU's memory does not suffice."""
        try:
            return self._judged_at_once(rows, waveforms)
        except (RuntimeError, MemoryError) as error:
            if len(rows) == 1 or not is_out_of_memory(error):
                raise
        # Outside of the handler, which would keep the tensors of the failed attempt.
        half = len(rows) // 2
        return self._judged(rows[:half], waveforms[:half]) + self._judged(rows[half:], waveforms[half:])

    def _judged_at_once(
        self, rows: Sequence[AuditRow], waveforms: Sequence[np.ndarray]
    ) -> list[dict[str, _Judged]]:
        decoder = self._decoder
        architecture, model, tokenizer, record = (
            decoder.architecture, decoder.model, decoder.tokenizer, decoder.record,
        )  # fmt: skip
        features = [feature_row(waveform, decoder.input_kind) for waveform in waveforms]
        states = architecture.encode(
            model, architecture.input_batch(features, decoder.context.of_rows(features))
        )
        prompts = [architecture.decoder_prompt(tokenizer, task, record.language) for task in self.tasks]
        cache = SharedStatesCache(states)
        caps = [
            max_new_tokens(
                len(waveform) / SAMPLE_RATE_HZ, record.max_new_tokens_per_second, record.max_new_tokens_base
            )
            for waveform in waveforms
        ]
        generated = architecture.generate(
            model,
            tokenizer,
            states,
            self.tasks,
            language=record.language,
            max_new_tokens=caps,
            num_beams=record.num_beams,
            cache=cache,
        )
        generated = cut_at_own_cap(generated, caps, tokenizer.pad_token_id)
        given, given_lengths = self._given(rows)
        own, of_given = (
            log_probabilities(model, cache, prompts, tokens, lengths).tolist()
            for tokens, lengths in (
                (generated, hypothesis_lengths(generated, caps, tokenizer.eos_token_id)),
                (given, given_lengths),
            )
        )
        texts = TextDecoder(tokenizer)(generated.cpu().numpy())
        has_given = (given_lengths > 0).tolist()
        judged = [
            _Judged(text, own[index], of_given[index] if has_given[index] else None)
            for index, text in enumerate(texts)
        ]
        return [
            {task: judged[number * len(rows) + clip] for number, task in enumerate(self.tasks)}
            for clip in range(len(rows))
        ]

    def _given(self, rows: Sequence[AuditRow]) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens of the given texts, task by task, as training labels them, and how many they are.

        Returns:
            int64 [num_tasks × num_rows, longest] and [num_tasks × num_rows]; 0: nothing to compare with.
        """
        decoder = self._decoder
        limit = (
            decoder.architecture.max_label_length(decoder.model.config) - decoder.architecture.prompt_length
        )
        tokens = []
        for task in self.tasks:
            for row in rows:
                text = styled(getattr(row, TARGET_COLUMN[task]), decoder.record.text_style)
                ids = decoder.architecture.text_token_ids(decoder.tokenizer, text) if text else []
                is_usable = 0 < len(ids) <= limit
                tokens.append([*ids, decoder.tokenizer.eos_token_id] if is_usable else [])
        lengths = torch.tensor([len(of_text) for of_text in tokens], device=decoder.model.device)
        padded = pad_token_ids(
            [of_text or [decoder.tokenizer.eos_token_id] for of_text in tokens],
            decoder.tokenizer.pad_token_id,
        )
        return padded.to(decoder.model.device), lengths

    def _signals(self, row: AuditRow, judged: Mapping[str, _Judged], duration_s: float) -> dict[str, str]:
        cells: dict[str, str] = {}
        if transcript := judged.get(TRANSCRIBE):
            cells["recognized"] = _one_line(transcript.text)
            errors = edge_errors(row.transcript, transcript.text)
            if errors is not None:
                cells |= {name: format_number(value) for name, value in asdict(errors).items()}
            cells |= _probabilities("", transcript, duration_s)
        if translation := judged.get(TRANSLATE):
            cells["translated"] = _one_line(translation.text)
            if row.translation:
                given = styled(row.translation, self._decoder.record.text_style)
                cells["translation_chrf"] = format_number(chrf_counts([given], [translation.text])[0].score)
            cells |= _probabilities("translation_", translation, duration_s)
        return cells


def _with_waveforms(
    blocks: Iterable[Block], audio_root: Path
) -> Iterator[tuple[Block, dict[int, np.ndarray]]]:
    """Blocks with the waveforms of their usable clips by position; one block is read ahead."""

    def read(block: Block) -> dict[int, np.ndarray]:
        waveforms = {}
        for position, row in enumerate(block.rows):
            try:
                waveforms[position] = load_utterance(audio_root, asdict(row))
            except AudioError:
                continue  # the first stage says why
        return waveforms

    waiting: tuple[Block, Future[dict[int, np.ndarray]]] | None = None
    with ThreadPoolExecutor(1) as reader:
        for block in blocks:
            following = block, reader.submit(read, block)
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting is not None:
            yield waiting[0], waiting[1].result()


def _probabilities(prefix: str, judged: _Judged, duration_s: float) -> dict[str, str]:
    if judged.given_log_probability is None:
        return {}
    per_second = judged.given_log_probability / duration_s
    gap = (judged.log_probability - judged.given_log_probability) / duration_s
    return {
        f"{prefix}logprob_per_second": format_number(per_second),
        f"{prefix}logprob_gap": format_number(gap),
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())
