"""How a model is taught to write: the configuration's `text.style`.

One function serves training labels, the references of dev and of evaluations, and the hypotheses beside them,
so that a model is never scored against a writing that it was not taught. What a style takes away, the scoring
normalizer takes away too: error rates on normalized text are the same in every style.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from vietst.constants import TARGET_COLUMN
from vietst.text import lower_without_punctuation

TextStyle = Literal["as_is", "lower_nopunct"]

AS_IS: Final[TextStyle] = "as_is"


def styled(text: str, style: TextStyle) -> str:
    """A transcript or translation as a model of this style writes it: as it is, or by
    `text.lower_without_punctuation`. Idempotent."""
    return text if style == AS_IS else lower_without_punctuation(text)


def styled_row(row: Mapping[str, Any], style: TextStyle) -> dict[str, Any]:
    """A row of a split or a feature cache with its texts in a style."""
    return {**row, **{name: styled(row[name], style) for name in TARGET_COLUMN.values() if name in row}}
