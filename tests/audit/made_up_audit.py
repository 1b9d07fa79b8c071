"""The files of an audit over made-up values, as `scripts/audit_manifest.py` writes them."""

import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from vietst.audit.audit import COLUMNS, RECORD_NAME, SIGNALS_NAME
from vietst.audit.signals import SIGNALS, SUGGESTED, format_number
from vietst.data.tables import write_table

MANIFEST_COLUMNS = ("id", "audio_path", "transcript", "translation", "video_id", "start_s", "end_s")
WORDS = (
    "hôm",
    "nay",
    "anh",
    "Nam",
    "sẽ",
    "review",
    "cái",
    "slide",
    "này",
    "rồi",
    "gửi",
    "mail",
    "cho",
    "team",
    "nhé",
)
SIGNAL_RECORDS = [asdict(signal) | {"suggested": SUGGESTED.get(signal.name)} for signal in SIGNALS]


def made_up_rows(num_rows: int, seed: int = 1) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Rows of `signals.tsv` and of the manifest: most are fine, some are not, some are not measured."""
    dice = random.Random(seed)
    for number in range(num_rows):
        words = [dice.choice(WORDS) for _ in range(8)]
        heard = words if dice.random() < 0.8 else [dice.choice(WORDS), *words[dice.randrange(3) :]]
        texts = {
            "id": f"u{number}",
            "audio_path": f"audio/{number}.wav",
            "transcript": " ".join(words),
            "translation": " ".join(reversed(words)),
            "video_id": f"v{number // 20}",
            "start_s": f"{number % 20 * 2.5}",
            "end_s": f"{number % 20 * 2.5 + 3}",
        }
        cells = dict.fromkeys(COLUMNS, "") | {
            "id": texts["id"],
            "audio_path": texts["audio_path"],
            "recognized": " ".join(heard),
            "duration": format_number(dice.uniform(1, 9)),
            "duplicate_of": f"u{number - 7}" if number > 7 and dice.random() < 0.02 else "",
            "overlap_s": "0.5" if number % 20 else "0",
            "level_dbfs": format_number(dice.gauss(-23, 3)),
            "silence": format_number(dice.choice([0.1, 0.2, 0.4, dice.random()])),
            "speech": "" if dice.random() < 0.05 else format_number(dice.choice([0.9, 0.6, dice.random()])),
            "syllable_rate_z": format_number(dice.gauss(0, 3)),
            "number_mismatch": dice.choice(["0", "0", "0", "1", "2"]),
            "logprob_gap": format_number(abs(dice.gauss(0, 2))),
            "wer": format_number(sum(a != b for a, b in zip(words, heard, strict=False)) / 8),
        }
        yield cells, texts


def write_made_up_audit(folder: Path, rows: list[tuple[dict[str, str], dict[str, str]]]) -> Path:
    """Writes `signals.tsv`, `audit.json` and `manifest.tsv`; gives the path of the latter."""
    manifest = folder / "manifest.tsv"
    write_table(folder / SIGNALS_NAME, (cells for cells, _ in rows), COLUMNS)
    write_table(manifest, (texts for _, texts in rows), MANIFEST_COLUMNS)
    record = {"manifest": {"path": manifest.as_posix(), "num_rows": len(rows)}, "signals": SIGNAL_RECORDS}
    (folder / RECORD_NAME).write_text(json.dumps(record), encoding="utf-8")
    return manifest
