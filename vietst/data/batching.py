"""From cached rows to padded tensors: the parts of a batch that do not depend on the architecture."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from vietst.constants import IGNORE_INDEX, TARGET_COLUMN, TASKS, TRANSCRIBE
from vietst.data.ctc_units import CtcTable
from vietst.data.sources import LANGUAGE_COLUMN

if TYPE_CHECKING:
    import datasets


class UtteranceDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """A split of the feature cache whose rows know their own number.

    `row_index` lets a distributed evaluation score every utterance exactly once: samplers repeat rows to
    give every process equally many, and the copies are told by it.
    """

    def __init__(self, rows: "datasets.Dataset") -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.rows[index], "row_index": index}


class Batch(dict[str, Any]):
    """A collator's batch of tensors and `PackedClips`, whose small tensors a data worker sends as bytes.

    torch sends every tensor as a file descriptor, over a connection of its own: 0.3 ms each, which for the
    ten of a batch was 4 % of a nano training step. The large ones still go through shared memory.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        small = {
            name: value.numpy()
            for name, value in self.items()
            if isinstance(value, torch.Tensor) and value.nbytes <= _SMALL_BYTES
        }
        large = {name: value for name, value in self.items() if name not in small}
        return _received_batch, (list(self), small, large)


_SMALL_BYTES: Final = 1 << 16


def _received_batch(names: Sequence[str], small: dict[str, np.ndarray], large: dict[str, Any]) -> Batch:
    return Batch({name: torch.from_numpy(small[name]) if name in small else large[name] for name in names})


@dataclasses.dataclass(frozen=True)
class Target:
    """One text that an utterance teaches: a row of `labels`."""

    utterance_index: int
    task: str
    text: str
    language: str | None = None
    """Of the text; None: that of the model."""


def targets_of(rows: Sequence[dict[str, Any]], tasks: Sequence[str]) -> list[Target]:
    """The targets that the utterances have, task by task: first all transcripts, then all translations.

    A row without text for a task simply has no target there (it may train the other task alone).
    """
    return [
        Target(
            utterance_index,
            task,
            row[TARGET_COLUMN[task]],
            (row.get(LANGUAGE_COLUMN) or None) if task == TRANSCRIBE else None,
        )
        for task in tasks
        for utterance_index, row in enumerate(rows)
        if row[TARGET_COLUMN[task]]
    ]


class Prompts:
    """The decoder prompts of targets, each made once.

    Args:
        decoder_prompt: of an architecture.
        tasks: of the targets.
        language: of targets that say none.

    Raises:
        ModelError: the tokenizer has no prompt for a task in that language.
    """

    def __init__(
        self,
        decoder_prompt: Callable[[Any, str, str], list[int]],
        tokenizer: Any,
        tasks: Sequence[str],
        language: str,
    ) -> None:
        self._decoder_prompt, self._tokenizer, self._language = decoder_prompt, tokenizer, language
        self._made = {(task, language): decoder_prompt(tokenizer, task, language) for task in tasks}

    def of(self, target: Target) -> list[int]:
        key = target.task, target.language or self._language
        if key not in self._made:
            self._made[key] = self._decoder_prompt(self._tokenizer, *key)
        return self._made[key]


def pad_token_ids(sequences: Sequence[Sequence[int]], padding: int) -> torch.Tensor:
    """Pad on the right to the longest: int64 [num_sequences, longest]."""
    longest = max((len(sequence) for sequence in sequences), default=0)
    return torch.tensor(
        [[*sequence, *[padding] * (longest - len(sequence))] for sequence in sequences], dtype=torch.int64
    ).reshape(len(sequences), longest)


def label_batch(
    targets: Sequence[Target],
    prompts: Prompts,
    text_token_ids: Sequence[list[int]],
    *,
    end_token_id: int,
    pad_token_id: int,
) -> dict[str, torch.Tensor]:
    """Decoder inputs and labels of a batch, aligned: the label at a position is the token that follows it.

    With the prompt p1 p2 p3 p4 and the text a b, and E the end token:

        decoder_input_ids   p1   p2   p3   p4   a   b
        labels              -100 -100 -100 a    b   E

    No loss on the prompt (it is given, and its task token cannot be guessed); the end token is always
    learned. Padding is masked by length, never by id: Whisper's pad *is* its end token.

    Args:
        targets: the label rows, in order.
        prompts: the decoder prompts, start token included.
        text_token_ids: the tokens of each target's text, without special tokens.

    Returns:
        `decoder_input_ids`, `labels` int64 [num_targets, length]; `label_positions` int64 [num_labels], where
        labels are in the flattened `labels`; `utterance_index`, `task_index` int64 [num_targets].
    """
    inputs = [
        prompts.of(target) + token_ids for target, token_ids in zip(targets, text_token_ids, strict=True)
    ]
    labels = [
        [IGNORE_INDEX] * (len(prompts.of(target)) - 1) + [*token_ids, end_token_id]
        for target, token_ids in zip(targets, text_token_ids, strict=True)
    ]
    padded_labels = pad_token_ids(labels, IGNORE_INDEX)
    return {
        "decoder_input_ids": pad_token_ids(inputs, pad_token_id),
        "labels": padded_labels,
        "label_positions": label_positions(padded_labels),
        "utterance_index": torch.tensor([target.utterance_index for target in targets], dtype=torch.int64),
        "task_index": torch.tensor([TASKS.index(target.task) for target in targets], dtype=torch.int64),
    }


def label_positions(labels: torch.Tensor) -> torch.Tensor:
    """Where the flattened labels are not `IGNORE_INDEX`: int64 [num_labels].

    Found out with the batch: on a GPU, training would have to wait to learn how many they are.
    """
    return (labels.flatten() != IGNORE_INDEX).nonzero().squeeze(1)


def utterance_batch(rows: Sequence[dict[str, Any]], ctc_table: CtcTable | None) -> dict[str, torch.Tensor]:
    """What a batch holds for each utterance beside its audio, whatever the architecture.

    Returns:
        `row_index` int64 and `duration_s` float32, both [num_utterances]; with `ctc_table` also
        `ctc_labels` int64 [num_utterances, length] of the transcripts, `IGNORE_INDEX` at padding.
    """
    batch = {
        "row_index": torch.tensor([row["row_index"] for row in rows]),
        "duration_s": torch.tensor([row["duration_s"] for row in rows], dtype=torch.float32),
    }
    if ctc_table is not None:
        units = [ctc_table.encode(row["transcript"]) for row in rows]
        batch["ctc_labels"] = pad_token_ids(units, IGNORE_INDEX)
    return batch
