"""What several benchmark stages measure with: rows of a manifest, and made-up targets."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from vietst.constants import IGNORE_INDEX, TASKS
from vietst.data.splits import REQUIRED_COLUMNS
from vietst.data.tables import open_table
from vietst.errors import ManifestError

if TYPE_CHECKING:
    import torch


def manifest_rows(manifest: Path, num_rows: int | None = None) -> list[dict[str, str]]:
    """The first rows of a cleaned manifest; None: all of them.

    Raises:
        ManifestError: no such manifest, or one that was not cleaned.
    """
    table = open_table(
        manifest,
        REQUIRED_COLUMNS,
        if_missing="make one: python scripts/make_sample_corpus.py and python scripts/build_features.py",
        if_columns_missing="clean it first: python scripts/preprocess_manifest.py",
    )
    rows = [row for _, row in itertools.islice(table.rows(), num_rows)]
    if not rows:
        raise ManifestError(
            where=str(manifest), rule="at least one utterance", found="none", do="name another manifest"
        )
    return rows


def made_up_targets(
    num_utterances: int, num_label_tokens: int, *, prompt_length: int, vocab_size: int
) -> dict[str, "torch.Tensor"]:
    """Both targets of every utterance, of random tokens, as a collator gives them: all equally long.

    Args:
        num_label_tokens: of each target, prompt included.
        prompt_length: tokens of the decoder's prompt.
    """
    import torch

    from vietst.data.batching import label_positions

    shape = (len(TASKS) * num_utterances, num_label_tokens)
    labels = torch.randint(vocab_size, shape)
    labels[:, : prompt_length - 1] = IGNORE_INDEX
    return {
        "decoder_input_ids": torch.randint(vocab_size, shape),
        "labels": labels,
        "label_positions": label_positions(labels),
        "utterance_index": torch.arange(num_utterances).repeat(len(TASKS)),
        "task_index": torch.arange(len(TASKS)).repeat_interleave(num_utterances),
    }
