"""The conventions report: how each video and each source writes, and where they disagree.

    data/audit/
        conventions.json   all counts: of the corpus, of every source, of every video
        conventions.html   the same to look at, with what can be done about it

Memory holds some counts for each video, never a text but one example of each way of writing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from vietst.audit.rows import open_manifest
from vietst.audit.writing import CONVENTIONS, Convention, occurrences
from vietst.constants import TARGET_COLUMN
from vietst.data.sources import SOURCE_COLUMN
from vietst.data.tables import atomic_writer, write_json
from vietst.data.video_ids import video_id_of
from vietst.evaluation.report_tables import ReportTable
from vietst.pages import filled
from vietst.runtime import get_logger

JSON_NAME: Final = "conventions.json"
PAGE_NAME: Final = "conventions.html"

MIN_OCCURRENCES: Final = 5
"""Of a convention in a video, before its way of writing is called its own."""
_MAX_VIDEOS: Final = 100
"""Of the page; the JSON file has all."""
_MAX_EXAMPLE: Final = 60

_logger = get_logger(__name__)

Counts = Counter[tuple[str, str]]
"""(convention, way) → occurrences."""


class WritingCounts:
    """Counts what the texts of one manifest column say about each convention, by group and over all."""

    def __init__(self) -> None:
        self.num_texts = 0
        self.overall: Counts = Counter()
        self.groups: dict[str, dict[str, Counts]] = {"source": {}, "video_id": {}}
        self.examples: dict[tuple[str, str], str] = {}

    def add(self, text: str, names: Mapping[str, str]) -> None:
        """A text, and the group that it belongs to of each kind, "" where that is not known."""
        counts: Counts = Counter()
        for convention, way, piece in occurrences(text):
            counts[convention, way] += 1
            self.examples.setdefault((convention, way), piece[:_MAX_EXAMPLE])
        self.num_texts += bool(counts)
        self.overall.update(counts)
        for group, name in names.items():
            if name:
                self.groups[group].setdefault(name, Counter()).update(counts)


def count_conventions(rows: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """How the texts of a manifest are written, from its rows: `audio_path`, `transcript`, and where they are
    known `translation`, `video_id`, `source`.

    Returns, under `transcript` and, where there are any, `translation`: `num_texts`, and `conventions`, those
    that occur. Each has its `name`, `label`, `settled_by`, `num` (occurrences), `usual` (the way that is most
    frequent), `ways` (of each `looks_like`, `num`, `share`, `example`), and `by_source` and `by_video_id`:

    * `num_groups` with at least `MIN_OCCURRENCES`;
    * `explained`: which part of the disagreement is between these groups, by Goodman and Kruskal's tau. 1:
      each is consistent, and they differ; 0: all mix alike; None: fewer than two groups, or no disagreement;
    * `otherwise`: those whose usual way is another, with their `num` and the `shares` of each way;
    * `groups`: the occurrences of each way in every group.
    """
    counted = {column: WritingCounts() for column in TARGET_COLUMN.values()}
    for row in rows:
        video_id = row.get("video_id") or video_id_of(row["audio_path"])
        names = {"source": row.get("source") or row.get(SOURCE_COLUMN, ""), "video_id": video_id}
        for column, counts in counted.items():
            counts.add(row.get(column, ""), names)
    return {column: _of_column(counts) for column, counts in counted.items() if counts.num_texts}


def _of_column(counted: WritingCounts) -> dict[str, Any]:
    found = [_of_convention(convention, counted) for convention in CONVENTIONS]
    return {"num_texts": counted.num_texts, "conventions": [entry for entry in found if entry]}


def _of_convention(convention: Convention, counted: WritingCounts) -> dict[str, Any]:
    nums = {way: counted.overall[convention.name, way] for way in convention.ways}
    total = sum(nums.values())
    if total == 0:
        return {}
    usual = max(nums, key=lambda way: nums[way])
    return {
        "name": convention.name,
        "label": convention.label,
        "settled_by": convention.settled_by,
        "num": total,
        "usual": usual,
        "ways": {
            way: {
                "looks_like": convention.ways[way],
                "num": num,
                "share": num / total,
                "example": counted.examples[convention.name, way],
            }
            for way, num in nums.items()
            if num
        },
        **{
            f"by_{group}": _of_groups(convention, usual, members)
            for group, members in counted.groups.items()
            if members
        },
    }


def _of_groups(convention: Convention, usual: str, members: Mapping[str, Counts]) -> dict[str, Any]:
    groups = {}
    for name, counts in sorted(members.items()):
        nums = {way: counts[convention.name, way] for way in convention.ways if counts[convention.name, way]}
        if nums:
            groups[name] = nums
    large = {name: nums for name, nums in groups.items() if sum(nums.values()) >= MIN_OCCURRENCES}
    otherwise: list[dict[str, Any]] = [
        {
            "group": name,
            "num": sum(nums.values()),
            "shares": {way: num / sum(nums.values()) for way, num in nums.items()},
        }
        for name, nums in large.items()
        if max(nums, key=lambda way: nums[way]) != usual
    ]
    otherwise.sort(key=lambda entry: -entry["num"])
    return {
        "num_groups": len(large),
        "explained": _explained(list(large.values())),
        "otherwise": otherwise,
        "groups": groups,
    }


def _explained(groups: list[dict[str, int]]) -> float | None:
    """Goodman and Kruskal's tau (1954): 1 − disagreement inside groups / disagreement over all, where
    disagreement is the chance that two occurrences, drawn with replacement, are written differently."""
    total: Counter[str] = Counter()
    for nums in groups:
        total.update(nums)
    over_all = _disagreement(total)
    if len(groups) < 2 or over_all == 0:
        return None
    inside = sum(sum(nums.values()) * _disagreement(nums) for nums in groups) / sum(total.values())
    return 1 - inside / over_all


def _disagreement(nums: Mapping[str, int]) -> float:
    total = sum(nums.values())
    return 1 - sum((num / total) ** 2 for num in nums.values())


# --- files --------------------------------------------------------------------------------------------------


def write_conventions(manifest_path: Path, output_dir: Path) -> list[Path]:
    """Read a manifest once, and write `conventions.json` and `conventions.html`.

    Raises:
        ManifestError: no such file, or one without audio_path and transcript.
    """
    manifest = open_manifest(manifest_path)
    texts = count_conventions(row for _, row in manifest.rows())
    output_dir.mkdir(parents=True, exist_ok=True)
    files = [output_dir / JSON_NAME, output_dir / PAGE_NAME]
    write_json(files[0], {"manifest": manifest_path.as_posix(), **texts})
    page = filled(
        "conventions.html",
        title=f"How {manifest_path.name} is written",
        sections=[_section(column, of_column) for column, of_column in texts.items()],
        has_audio=False,
    )
    with atomic_writer(files[1]) as file:
        file.write(page)
    _logger.info("how the texts are written: %s", files[1])
    return files


# --- tables -------------------------------------------------------------------------------------------------


def _section(column: str, of_column: Mapping[str, Any]) -> dict[str, Any]:
    conventions = of_column["conventions"]
    return {
        "name": column,
        "num_texts": of_column["num_texts"],
        "overview": overview_table(conventions),
        "sources": [table for entry in conventions if (table := groups_table(entry, "source"))],
        "videos": [table for entry in conventions if (table := groups_table(entry, "video_id"))],
        "ways": [ways_table(entry) for entry in conventions if len(entry["ways"]) > 1],
    }


_GROUP_LABELS: Final = {"source": "source", "video_id": "video"}


def overview_table(conventions: Iterable[Mapping[str, Any]]) -> ReportTable:
    """A line for each convention: how far it is followed, and who does not."""
    rows = []
    for entry in conventions:
        of_groups = [entry.get(f"by_{group}") for group in _GROUP_LABELS]
        rows.append(
            [
                entry["label"],
                f"{entry['num']:,}",
                entry["ways"][entry["usual"]]["looks_like"],
                _percent(entry["ways"][entry["usual"]]["share"]),
                *(cell for found in of_groups for cell in _group_cells(found)),
                entry["settled_by"],
            ]
        )
    header = ["convention", "occurrences", "usual way", "written so"]
    for label in _GROUP_LABELS.values():
        header += [f"{label}s otherwise", f"between {label}s"]
    return ReportTable(
        "Conventions of the corpus",
        [*header, "made equal by"],
        rows,
        [
            f"“otherwise”: of those with at least {MIN_OCCURRENCES} occurrences, those whose usual way is "
            "another. “between”: which part of the disagreement lies between them; at 100 % each is "
            "consistent and they differ, at 0 % all mix alike."
        ],
        text_columns={0: "en", 2: "vi", len(header): "en"},
    )


def _group_cells(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["–", "–"]
    explained = "–" if found["explained"] is None else _percent(found["explained"])
    return [f"{len(found['otherwise']):,} of {found['num_groups']:,}", explained]


def ways_table(entry: Mapping[str, Any]) -> ReportTable:
    """The ways of writing of one convention, each with an example of the corpus."""
    rows = [
        [way["looks_like"], f"{way['num']:,}", _percent(way["share"]), way["example"]]
        for way in sorted(entry["ways"].values(), key=lambda way: -way["num"])
    ]
    header = ["way", "occurrences", "share", "first example"]
    return ReportTable(_captioned(entry["label"]), header, rows, text_columns={0: "vi", 3: "vi"})


def groups_table(entry: Mapping[str, Any], group: str) -> ReportTable | None:
    """All sources, or the videos that write otherwise; None where there are none, or all write alike."""
    found = entry.get(f"by_{group}")
    if found is None or not found["otherwise"]:
        return None
    ways = list(entry["ways"])
    if group == "source":
        names, notes = list(found["groups"]), []
    else:
        names = [of_one["group"] for of_one in found["otherwise"][:_MAX_VIDEOS]]
        num = len(found["otherwise"])
        notes = [f"{len(names)} of {num:,}; all stand in the JSON file."] if num > len(names) else []
    shown = [(name, found["groups"][name]) for name in names]
    rows = [
        [name, f"{sum(nums.values()):,}", *(_percent(nums.get(way, 0) / sum(nums.values())) for way in ways)]
        for name, nums in shown
    ]
    header = [_GROUP_LABELS[group], "occurrences", *(entry["ways"][way]["looks_like"] for way in ways)]
    return ReportTable(_captioned(entry["label"]), header, rows, notes, is_long=len(rows) > 12)


def _captioned(label: str) -> str:
    return label[0].upper() + label[1:]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
