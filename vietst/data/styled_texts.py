"""The texts of cached rows in the style that a model is taught to write; features are not touched."""

from typing import TYPE_CHECKING, Final

from vietst.constants import TARGET_COLUMN
from vietst.text_style import AS_IS, TextStyle, styled

if TYPE_CHECKING:
    import datasets

_ROWS_OF_A_PIECE: Final = 256
"""About a shard's: as one column, all texts would go to a spawned data worker once for every shard."""


def in_style(rows: "datasets.Dataset", style: TextStyle) -> "datasets.Dataset":
    """A split of the feature cache with its transcripts and translations in a style.

    They are held in memory, beside features that stay on the disk, so that nothing is built again.
    """
    if style == AS_IS:
        return rows
    from datasets import concatenate_datasets

    starts = range(0, len(rows), _ROWS_OF_A_PIECE)
    pieces = [rows.select(range(start, min(start + _ROWS_OF_A_PIECE, len(rows)))) for start in starts]
    return concatenate_datasets([_styled_piece(piece, style) for piece in pieces])


def _styled_piece(rows: "datasets.Dataset", style: TextStyle) -> "datasets.Dataset":
    for column in TARGET_COLUMN.values():
        texts = [styled(text, style) for text in rows[column]]
        rows = rows.remove_columns(column).add_column(column, texts)
    return rows
