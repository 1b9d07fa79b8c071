"""Faults put into a corpus: as many of each kind as said, in the rows that the truth names, and no others."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vietst.benchmarks.fault_plan import FAULT_KINDS
from vietst.benchmarks.faulty_audio import Samples
from vietst.benchmarks.injected_faults import TRUTH_NAME, inject_faults
from vietst.data.tables import read_table
from vietst.errors import ManifestError

RATE_HZ = 16_000
NUM_ROWS, NUM_VIDEOS = 200, 5
COLUMNS = ("id", "audio_path", "transcript", "translation", "duration", "video_id", "note")


def make_corpus(root: Path, num_rows: int = NUM_ROWS) -> Path:
    """Clips of a second and more, each another noise; every fifth translation is the transcript itself."""
    (root / "audio").mkdir()
    lines = ["\t".join(COLUMNS)]
    for index in range(num_rows):
        noise = np.random.default_rng(index).normal(0, 0.1, RATE_HZ + 40 * index)
        soundfile.write(root / "audio" / f"{index}.wav", noise, RATE_HZ, subtype="PCM_16")
        transcript = f'câu số {index} "nói" bug'
        translation = transcript if index % 5 == 0 else f"câu số {index} dịch lỗi"
        video_id = f"video_{index * NUM_VIDEOS // num_rows}"
        duration = f"{len(noise) / RATE_HZ:.6f}"
        row = (
            f"row-{index}",
            f"audio/{index}.wav",
            transcript,
            translation,
            duration,
            video_id,
            f"note {index}",
        )
        lines.append("\t".join(row))
    path = root / "manifest_clean.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return path


class Corpus:
    """A corpus, its faulty copy, and the truth."""

    def __init__(self, root: Path) -> None:
        self.root, self.path, self.faulty_path = root, make_corpus(root), root / "faulty" / "manifest.tsv"
        self.faults = inject_faults(self.path, self.faulty_path, audio_root=root)
        self.rows, self.faulty = read_table(self.path), read_table(self.faulty_path)
        self.truth = read_table(self.faulty_path.with_name(TRUTH_NAME))

    def pairs(self, kind: str) -> list[tuple[dict[str, str], dict[str, str], dict[str, str]]]:
        """(truth, the row as it was, the faulty row) for every fault of a kind."""
        by_id, faulty_by_id = ({row["id"]: row for row in rows} for rows in (self.rows, self.faulty))
        found = [
            (line, by_id[line["id"]], faulty_by_id[line["id"]])
            for line in self.truth
            if line["fault"] == kind
        ]
        assert found
        return found

    def clip(self, row: dict[str, str]) -> Samples:
        samples, rate_hz = soundfile.read(self.root / row["audio_path"])
        assert rate_hz == RATE_HZ
        assert float(row["duration"]) == pytest.approx(len(samples) / rate_hz, abs=1e-6)
        return samples

    def row(self, row_id: str) -> dict[str, str]:
        return self.rows[int(row_id.removeprefix("row-"))]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("corpus"))


def texts(row: dict[str, str]) -> tuple[str, str]:
    return row["transcript"], row["translation"]


def test_each_kind_takes_a_twentieth_of_the_rows_and_no_row_has_two(corpus: Corpus) -> None:
    assert Counter(line["fault"] for line in corpus.truth) == dict.fromkeys(FAULT_KINDS, NUM_ROWS // 20)
    assert len({line["id"] for line in corpus.truth}) == len(corpus.truth)


def test_the_truth_names_exactly_the_lines_that_changed(corpus: Corpus) -> None:
    before, after = (path.read_bytes().splitlines() for path in (corpus.path, corpus.faulty_path))
    changed = [new.split(b"\t")[0].decode() for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [line["id"] for line in corpus.truth]
    assert changed == [corpus.rows[fault.index]["id"] for fault in corpus.faults]
    assert all(row["note"] == old["note"] for row, old in zip(corpus.faulty, corpus.rows, strict=True))


def test_the_audio_of_the_corpus_stays_as_it_was(corpus: Corpus, tmp_path: Path) -> None:
    make_corpus(tmp_path)
    for path in (tmp_path / "audio").iterdir():
        assert (corpus.root / "audio" / path.name).read_bytes() == path.read_bytes()
    with_new_audio = {"miscut", "music", "half_silent", "duplicate"}
    kinds = {line["id"]: line["fault"] for line in corpus.truth}
    for row in corpus.faulty:
        assert row["audio_path"].startswith("faulty/audio/") == (kinds.get(row["id"]) in with_new_audio)


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_rows(corpus: Corpus) -> None:
    again, other = (corpus.root / name / "manifest.tsv" for name in ("again", "other"))
    inject_faults(corpus.path, again, audio_root=corpus.root)
    inject_faults(corpus.path, other, audio_root=corpus.root, seed=2)
    truth = (corpus.faulty_path.with_name(TRUTH_NAME)).read_bytes()
    assert again.with_name(TRUTH_NAME).read_bytes() == truth
    assert other.with_name(TRUTH_NAME).read_bytes() != truth
    clips = sorted((corpus.faulty_path.parent / "audio").iterdir())
    times_ns = [path.stat().st_mtime_ns for path in clips]
    for path in clips:
        assert (again.parent / "audio" / path.name).read_bytes() == path.read_bytes()
    inject_faults(corpus.path, corpus.faulty_path, audio_root=corpus.root)
    assert [path.stat().st_mtime_ns for path in clips] == times_ns, (
        "written again, they would be audited again"
    )


def test_shifted_rows_have_the_texts_of_the_row_beside_them_in_runs(corpus: Corpus) -> None:
    indices = []
    for truth, old, new in corpus.pairs("shifted"):
        source = corpus.row(truth["source_id"])
        step = {"texts of the next row": 1, "texts of the previous row": -1}[truth["detail"]]
        index = int(old["id"].removeprefix("row-"))
        assert source == corpus.rows[index + step]
        assert source["video_id"] == old["video_id"]
        assert texts(new) == texts(source)
        assert new["audio_path"] == old["audio_path"]
        indices.append(index)
    num_alone = sum(index - 1 not in indices and index + 1 not in indices for index in indices)
    assert num_alone <= 1, "the last run takes what is left"


def test_miscut_clips_lose_half_a_second_at_one_end_and_gain_it_at_the_other(corpus: Corpus) -> None:
    details = set()
    for truth, old, new in corpus.pairs("miscut"):
        own, neighbour, cut = (corpus.clip(row) for row in (old, corpus.row(truth["source_id"]), new))
        half = RATE_HZ // 2
        expected = {
            "0.5 s early": np.concatenate([neighbour[-half:], own[:-half]]),
            "0.5 s late": np.concatenate([own[half:], neighbour[:half]]),
        }[truth["detail"]]
        np.testing.assert_allclose(cut, expected, atol=1e-4)
        assert texts(new) == texts(old)
        details.add(truth["detail"])
    assert len(details) == 2


def test_translations_are_exchanged_in_pairs_within_a_video(corpus: Corpus) -> None:
    for truth, old, new in corpus.pairs("swapped_translation"):
        partner = corpus.row(truth["source_id"])
        assert new["translation"] == partner["translation"] != old["translation"]
        assert corpus.faulty[corpus.rows.index(partner)]["translation"] == old["translation"]
        assert (new["transcript"], new["video_id"]) == (old["transcript"], partner["video_id"])


def test_the_transcript_is_copied_where_it_was_not_the_translation(corpus: Corpus) -> None:
    for _, old, new in corpus.pairs("copied_transcript"):
        assert old["translation"] != new["translation"] == old["transcript"] == new["transcript"]


def test_music_takes_the_place_of_the_whole_clip_and_is_another_one_each_time(corpus: Corpus) -> None:
    spectra = []
    for _, old, new in corpus.pairs("music"):
        own, music = corpus.clip(old), corpus.clip(new)
        assert len(own) == len(music)
        assert abs(np.corrcoef(own, music)[0, 1]) < 0.1
        spectrum = np.abs(np.fft.rfft(music, 1 << 16))
        spectra.append(spectrum / np.linalg.norm(spectrum))
    assert all(first @ second < 0.7 for first, second in pairwise(spectra))


def test_one_half_is_silent_and_the_other_as_it_was(corpus: Corpus) -> None:
    for truth, old, new in corpus.pairs("half_silent"):
        own, changed = corpus.clip(old), corpus.clip(new)
        middle = len(own) // 2
        halves = [(own[:middle], changed[:middle]), (own[middle:], changed[middle:])]
        silent, kept = halves if truth["detail"].startswith("first half") else reversed(halves)
        np.testing.assert_allclose(kept[1], kept[0], atol=1e-4)
        assert (np.abs(silent[1]).max() == 0) == truth["detail"].endswith("zeros")
        assert np.sqrt(np.mean(silent[1] ** 2)) <= 10 ** (-60 / 20)


def test_duplicates_sound_like_an_earlier_untouched_row_of_another_video(corpus: Corpus) -> None:
    faulty_ids, variants = {line["id"] for line in corpus.truth}, set()
    for truth, old, new in corpus.pairs("duplicate"):
        source = corpus.row(truth["source_id"])
        assert source["id"] not in faulty_ids
        assert corpus.rows.index(source) < corpus.rows.index(old)
        assert source["video_id"] != old["video_id"] == new["video_id"]
        original, copy = corpus.clip(source), corpus.clip(new)
        assert not np.array_equal(original[: len(copy)], copy[: len(original)])
        size = 1 << 17
        product = np.fft.irfft(np.fft.rfft(original, size) * np.fft.rfft(copy, size).conj())
        assert product.max() > 0.6 * np.linalg.norm(original) * np.linalg.norm(copy)
        whose = source if truth["detail"].startswith("the source's") else old
        assert texts(new) == texts(whose)
        variants.add(truth["detail"].split(",")[0])
    assert len(variants) == 2


def test_a_corpus_without_room_for_a_kind_is_refused(tmp_path: Path) -> None:
    path = make_corpus(tmp_path, num_rows=20)
    with pytest.raises(ManifestError, match="of the kind"):
        inject_faults(path, tmp_path / "faulty" / "manifest.tsv", audio_root=tmp_path, share=0.2)
