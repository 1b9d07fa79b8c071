"""The texts of cached rows in the style that a model is taught to write; features are not touched."""

from typing import TYPE_CHECKING

from vietst.constants import TARGET_COLUMN
from vietst.text_style import AS_IS, TextStyle, styled

if TYPE_CHECKING:
    import datasets


def in_style(rows: "datasets.Dataset", style: TextStyle) -> "datasets.Dataset":
    """A split of the feature cache with its transcripts and translations in a style.

    They are held in memory beside features that stay on the disk, so that nothing is built again.
    """
    if style == AS_IS:
        return rows
    for column in TARGET_COLUMN.values():
        texts = [styled(text, style) for text in rows[column]]
        rows = rows.remove_columns(column).add_column(column, texts)
    return rows
