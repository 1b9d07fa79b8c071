"""The model card: does the Hub list it rightly, and does it say nothing about the machine it was made on?"""

from collections.abc import Iterator
from pathlib import Path

from vietst.doctor.findings import Finding, Status
from vietst.hub.metadata_rules import check_card as problems_of_card
from vietst.hub.model_card import CARD_NAME


def check_card(folder: Path, is_download: bool) -> Iterator[Finding]:
    card = folder / CARD_NAME
    if not card.is_file() and not is_download:
        yield Finding(Status.OK, "card", "none yet: scripts/push_to_hub.py writes it")
    elif not card.is_file():
        yield Finding(Status.MEND, "card", f"no {CARD_NAME}", "push the model with scripts/push_to_hub.py")
    elif problems := problems_of_card(card):
        yield Finding(
            Status.MEND, "card", "; ".join(problems), "push the model again: scripts/push_to_hub.py writes it"
        )
    else:
        yield Finding(Status.OK, "card", "keeps the Hub's rules for metadata, names no place of a machine")
