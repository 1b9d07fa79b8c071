"""Which rows of a table get which fault: what cut videos and hurried transcripts do to manifests.

Each kind of fault takes the same share of the rows, and no row has two.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vietst.benchmarks.faulty_audio import MISCUT_S

FAULT_KINDS: Final = {
    "shifted": "texts of the row before or after, three to eight rows in a run",
    "miscut": f"audio cut {MISCUT_S:g} s early or late",
    "swapped_translation": "translations of two rows of a video exchanged",
    "copied_transcript": "the transcript stands in for the translation",
    "music": "music instead of speech",
    "half_silent": "the first or the second half is silent",
    "duplicate": "audio of an earlier row of another video, with that row's texts or with its own",
}
"""What is injected, in the order in which rows are chosen: runs need room."""

_RUN_LENGTH: Final = (3, 8)
_MIN_MISCUT_DURATION_S: Final = 1.0
"""Clips that are miscut, and their neighbours, are no shorter."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with one row.

    Attributes:
        index: of the row in the table, from 0.
        kind: a key of `FAULT_KINDS`.
        detail: which variety of the kind.
        source: index of the row that texts or audio come from; None where there is none.
        audio_of: indices of the rows whose clips the faulty clip is made from, in the order of the video;
            empty: the clip stays as it is.
    """

    index: int
    kind: str
    detail: str
    source: int | None = None
    audio_of: tuple[int, ...] = ()


def plan_faults(rows: Sequence[Mapping[str, str]], *, share: float, seed: int) -> list[Fault]:
    """Chooses rows for every kind, in the order of the rows.

    Raises:
        LookupError: not enough rows suit a kind; it says which.
    """
    plan = _Plan(rows, random.Random(f"faults {seed}"))
    number = round(share * len(rows))
    plan.shift(number)
    plan.miscut(number)
    plan.swap_translations(number - number % 2)  # they come in pairs
    plan.copy_transcripts(number)
    plan.replace_by_music(number)
    plan.silence_halves(number)
    plan.duplicate(number)
    return sorted(plan.faults, key=lambda fault: fault.index)


class _Plan:
    """Faults chosen so far, and the rows that are still without one."""

    def __init__(self, rows: Sequence[Mapping[str, str]], generator: random.Random) -> None:
        self.rows, self.generator = rows, generator
        self.faults: list[Fault] = []
        self.free = set(range(len(rows)))
        self.videos: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            self.videos.setdefault(row["video_id"], []).append(index)
        self.neighbours: dict[int, tuple[int | None, int | None]] = {}
        for members in self.videos.values():
            around = [None, *members, None]
            for place, index in enumerate(members):
                self.neighbours[index] = (around[place], around[place + 2])

    def add(self, fault: Fault) -> None:
        self.free.remove(fault.index)
        self.faults.append(fault)

    def candidates(self, kind: str, number: int, suits: Callable[[int], bool] | None = None) -> list[int]:
        """Free rows that suit, in random order; at least `number` of them."""
        found = [index for index in sorted(self.free) if suits is None or suits(index)]
        if len(found) < number:
            raise LookupError(f"{len(found)} rows for {number} faults of the kind {kind}")
        self.generator.shuffle(found)
        return found

    def shift(self, number: int) -> None:
        """Runs of rows with the texts of their neighbours on one side, as after a line lost or doubled."""
        num_left = number
        for start in self.candidates("shifted", number):
            if num_left == 0:
                return
            side = self.generator.choice((0, 1))
            run = self._run(start, side, min(num_left, self.generator.randint(*_RUN_LENGTH)))
            for index in run:
                detail = f"texts of the {('previous', 'next')[side]} row"
                self.add(Fault(index, "shifted", detail, self.neighbours[index][side]))
            num_left -= len(run)
        if num_left:
            raise LookupError(f"room for {number - num_left} of {number} faults of the kind shifted")

    def _run(self, start: int, side: int, length: int) -> list[int]:
        """`length` free rows from `start` on, with other texts than their neighbours, or []."""
        run: list[int] = []
        index: int | None = start
        while len(run) < length and index is not None and index in self.free:
            source = self.neighbours[index][side]
            if source is None or self.rows[source]["transcript"] == self.rows[index]["transcript"]:
                break
            run.append(index)
            index = self.neighbours[index][1]
        return run if len(run) == length else []

    def miscut(self, number: int) -> None:
        def suits(index: int) -> bool:
            around = self._around(index)
            durations_s = [float(self.rows[other]["duration"]) for other in around]
            return len(around) == 3 and min(durations_s) >= _MIN_MISCUT_DURATION_S

        for index in self.candidates("miscut", number, suits)[:number]:
            side = self.generator.choice((0, 1))
            detail = f"{MISCUT_S:g} s {('early', 'late')[side]}"
            self.add(Fault(index, "miscut", detail, self.neighbours[index][side], self._around(index)))

    def _around(self, index: int) -> tuple[int, ...]:
        """The row before, the row itself and the row after, as far as they are there."""
        before, after = self.neighbours[index]
        return tuple(other for other in (before, index, after) if other is not None)

    def swap_translations(self, number: int) -> None:
        kind, num_left = "swapped_translation", number
        for index in self.candidates(kind, number):
            if num_left == 0:
                return
            if index not in self.free:
                continue  # the partner of one before
            row = self.rows[index]
            partners = [
                other
                for other in self.videos[row["video_id"]]
                if other in self.free and self.rows[other]["translation"] != row["translation"]
            ]
            if partners:
                partner = self.generator.choice(partners)
                self.add(Fault(index, kind, "within its video", partner))
                self.add(Fault(partner, kind, "within its video", index))
                num_left -= 2
        if num_left:
            raise LookupError(f"partners for {number - num_left} of {number} faults of the kind {kind}")

    def copy_transcripts(self, number: int) -> None:
        def suits(index: int) -> bool:
            return self.rows[index]["transcript"] != self.rows[index]["translation"]

        for index in self.candidates("copied_transcript", number, suits)[:number]:
            self.add(Fault(index, "copied_transcript", "word for word"))

    def replace_by_music(self, number: int) -> None:
        for index in self.candidates("music", number)[:number]:
            self.add(Fault(index, "music", "all of the clip", audio_of=(index,)))

    def silence_halves(self, number: int) -> None:
        for index in self.candidates("half_silent", number)[:number]:
            half = self.generator.choice(("first half", "second half"))
            filling = self.generator.choice(("zeros", "faint noise"))
            self.add(Fault(index, "half_silent", f"{half}, {filling}", audio_of=(index,)))

    def duplicate(self, number: int) -> None:
        """The source comes earlier: from audio alone nobody can say which of two copies is the original."""
        kind = "duplicate"
        targets = self.candidates(kind, number, lambda index: index > len(self.rows) // 4)[:number]
        untouched = sorted(self.free - set(targets))
        self.generator.shuffle(untouched)
        for index in targets:
            source = next(
                (
                    other
                    for other in untouched
                    if other < index and self.rows[other]["video_id"] != self.rows[index]["video_id"]
                ),
                None,
            )
            if source is None:
                raise LookupError(f"no earlier row of another video to copy to {self.rows[index]['id']}")
            untouched.remove(source)
            texts = self.generator.choice(("its own texts", "the source's texts"))
            coding = self.generator.choice(("", ", once MP3"))
            self.add(Fault(index, kind, f"{texts}{coding}", source, audio_of=(source,)))
