"""Several manifests become one corpus: nothing twice, no split of one in a split of another, one cache."""

import json
from pathlib import Path

import pytest
import yaml

from tests.data.tiny_splits import write_clip
from tests.script_runs import run_script
from tests.user_machine import assert_refused
from vietst.constants import SPLITS
from vietst.data.feature_cache import open_feature_cache
from vietst.data.features import LOG_MEL_80
from vietst.data.manifest import clean_manifest_is_current, preprocess_manifest
from vietst.data.row_rules import PreprocessOptions
from vietst.data.sources import is_monolingual
from vietst.data.splits import split_manifest
from vietst.data.tables import read_table
from vietst.data.takedown_list import read_takedown
from vietst.errors import ManifestError

SOURCES = 'data.sources={"own": {"manifest": "own.tsv"}, "english": {"manifest": "english.csv"}}'


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """24 clips of 8 videos in own.tsv, 12 of 6 in english.csv with another column, and what they share."""
    own = ["id\taudio_path\ttranscript\ttranslation\tvideo_id\tspeaker_id\n"]
    for number in range(24):
        name = f"own/v{number // 3}/{number}.wav"
        write_clip(tmp_path / name, 0.6, seed=number)
        own.append(f"u{number}\t{name}\tcâu {number}\tcâu {number}\to{number // 3}\ts{number // 3}\n")
    english = ["audio_path,transcript,translation,video_id,speaker_id,license,id\n"]
    for number in range(12):
        name = f"english/{number}.wav"
        write_clip(tmp_path / name, 0.6, seed=100 + number)
        english.append(f"{name},sentence {number},câu,e{number // 2},,cc0,u{number}\n")
    english += [
        "own/v0/0.wav,the same path,câu,e9,,cc0,x\n",
        "english/copy.wav,the same bytes,câu,e9,,cc0,y\n",
        "english/tied.wav,the same speaker,câu,e9,s2,cc0,z\n",
        "english/short.wav,one field fewer,câu,e9,\n",
    ]
    (tmp_path / "english/copy.wav").write_bytes((tmp_path / "own/v1/3.wav").read_bytes())
    write_clip(tmp_path / "english/tied.wav", 0.6, seed=200)
    (tmp_path / "own.tsv").write_text("".join(own), encoding="utf-8")
    (tmp_path / "english.csv").write_text("".join(english), encoding="utf-8")
    return tmp_path


def manifests(folder: Path) -> dict[str, Path]:
    return {"own": folder / "own.tsv", "english": folder / "english.csv"}


def test_rows_of_all_sources_are_cleaned_as_one(corpus: Path) -> None:
    clean = corpus / "clean.tsv"
    summary = preprocess_manifest(manifests(corpus), clean, audio_root=corpus, progress=False)
    rows = read_table(clean)
    assert [row["data_source"] for row in rows] == ["own"] * 24 + ["english"] * 13
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["license"] for row in rows if row["data_source"] == "own"} == {""}
    assert {row["license"] for row in rows if row["data_source"] == "english"} == {"cc0"}
    rejected = sorted(read_table(corpus / "rejected.tsv"), key=lambda row: row["line"])
    removed = [row for row in rejected if row["action"] == "removed"]
    assert [(row["line"], row["reason"]) for row in removed] == [
        ("english:14", "conflicting_texts"),
        ("english:15", "audio_of_another_source"),
        ("english:17", "wrong_field_count"),
    ]
    assert "the same bytes are in own" in removed[1]["detail"]
    assert removed[2]["detail"] == "5 fields, the header names 7"
    assert summary["input"]["num_rows"] == 40 == summary["output"]["num_rows"] + len(removed)


def test_rows_say_the_language_of_their_source_unless_they_say_one_themselves(corpus: Path) -> None:
    lines = (corpus / "english.csv").read_text(encoding="utf-8").splitlines()
    with_language = [f"{line},{'vi' if 'sentence 3' in line else ''}" for line in lines[1:]]
    (corpus / "english.csv").write_text("\n".join([f"{lines[0]},language", *with_language]), encoding="utf-8")
    clean, sources = corpus / "clean.tsv", manifests(corpus)
    of_english = PreprocessOptions(languages={"english": "en"})
    preprocess_manifest(sources, clean, audio_root=corpus, options=of_english, progress=False)
    languages = {row["transcript"]: row["language"] for row in read_table(clean)}
    assert (languages["câu 3"], languages["sentence 2"], languages["sentence 3"]) == ("", "en", "vi")
    assert clean_manifest_is_current(sources, clean, audio_root=corpus, options=of_english)
    assert not clean_manifest_is_current(sources, clean, audio_root=corpus)


def test_cleaned_sources_are_current_until_one_of_them_changes(corpus: Path) -> None:
    clean, sources = corpus / "clean.tsv", manifests(corpus)
    preprocess_manifest(sources, clean, audio_root=corpus, progress=False)
    assert clean_manifest_is_current(sources, clean, audio_root=corpus)
    assert not clean_manifest_is_current({"own": sources["own"]}, clean, audio_root=corpus)
    assert not clean_manifest_is_current(sources["own"], clean, audio_root=corpus)
    renamed = {"mine": sources["own"], "english": sources["english"]}
    assert not clean_manifest_is_current(renamed, clean, audio_root=corpus)
    with sources["english"].open("a", encoding="utf-8") as file:
        file.write("english/1.wav,again,câu,e9,,cc0,w\n")
    assert not clean_manifest_is_current(sources, clean, audio_root=corpus)


def test_a_source_of_one_is_cleaned_as_the_manifest_alone(corpus: Path) -> None:
    alone, named = corpus / "alone/clean.tsv", corpus / "named/clean.tsv"
    own = corpus / "own.tsv"
    preprocess_manifest(own, alone, audio_root=corpus, progress=False)
    preprocess_manifest({"own": own}, named, audio_root=corpus, progress=False)
    without_source = [{k: v for k, v in row.items() if k != "data_source"} for row in read_table(named)]
    assert without_source == read_table(alone)
    assert "data_source" not in read_table(alone)[0]


def test_what_ties_rows_together_does_so_across_sources_and_each_has_its_shares(corpus: Path) -> None:
    clean, splits = corpus / "clean.tsv", corpus / "splits"
    preprocess_manifest(manifests(corpus), clean, audio_root=corpus, progress=False)
    split_manifest(clean, splits, ratios=(0.6, 0.2, 0.2))
    rows = [{**row, "split": split} for split in SPLITS for row in read_table(splits / f"{split}.csv")]
    for column in ("video_id", "speaker_id"):
        for value in {row[column] for row in rows} - {""}:
            assert len({row["split"] for row in rows if row[column] == value}) == 1, (column, value)
    tied = next(row for row in rows if row["transcript"] == "the same speaker")
    assert tied["split"] == next(row["split"] for row in rows if row["video_id"] == "o2")
    for source in ("own", "english"):
        assert {row["split"] for row in rows if row["data_source"] == source} == set(SPLITS)


def test_a_takedown_reaches_every_source(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus)
    overrides = [SOURCES, "paths.clean_manifest_path=clean.tsv", "paths.takedown_path=takedown.txt"]
    prepared = run_script("preprocess_manifest.py", corpus, "--config", write_config(corpus, overrides))
    assert prepared.returncode == 0, prepared.stderr
    split_manifest(corpus / "clean.tsv", corpus / "data/splits")
    (corpus / "takedown.txt").write_text("o3\ne2\n", encoding="utf-8")
    finished = run_script("take_down.py", corpus, *overrides)
    assert finished.returncode == 0, finished.stderr
    left = read_table(corpus / "clean.tsv")
    assert len(left) == 37 - 5
    assert not {row["video_id"] for row in left} & {"o3", "e2"}
    taken_down = [row for row in read_table(corpus / "rejected.tsv") if row["reason"] == "taken_down"]
    lines = ["english:6", "english:7", "own:11", "own:12", "own:13"]
    assert [row["line"] for row in taken_down] == lines
    assert {row["transcript"] for row in taken_down} == {""}
    assert clean_manifest_is_current(
        {"own": Path("own.tsv"), "english": Path("english.csv")},
        corpus / "clean.tsv",
        takedown=read_takedown(corpus / "takedown.txt"),
    )


def write_config(folder: Path, overrides: list[str]) -> str:
    """A YAML file with these overrides."""
    sections: dict[str, dict[str, object]] = {}
    for override in overrides:
        key, _, value = override.partition("=")
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = yaml.safe_load(value)
    (folder / "mixed.yaml").write_text(
        yaml.safe_dump({"_base_": "base.yaml", **sections}, sort_keys=False), encoding="utf-8"
    )
    return "mixed.yaml"


def test_a_column_that_is_called_like_ours_is_refused(corpus: Path) -> None:
    text = (corpus / "own.tsv").read_text(encoding="utf-8")
    (corpus / "own.tsv").write_text(text.replace("speaker_id\n", "data_source\n"), encoding="utf-8")
    with pytest.raises(ManifestError, match="data_source"):
        preprocess_manifest(manifests(corpus), corpus / "clean.tsv", audio_root=corpus, progress=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("audio_path\ttranscript\na.wav\tcâu\n", True),
        ("audio_path\ttranscript\ttranslation\na.wav\tcâu\t\nb.wav\tcâu\t \n", True),
        ("audio_path\ttranscript\ttranslation\na.wav\tcâu\t\nb.wav\tcâu\tdịch\n", False),
        ("audio_path\ttranscript\ttranslation\na.wav\tone field fewer\n", True),
        ("", False),
        (None, False),
    ],
)
def test_a_source_without_translations_is_told_by_its_first_rows(
    tmp_path: Path, text: str | None, expected: bool
) -> None:
    if text is not None:
        (tmp_path / "a.tsv").write_text(text, encoding="utf-8")
    assert is_monolingual(tmp_path / "a.tsv") is expected


def test_features_of_sources_are_built_and_copied_when_one_is_added(corpus: Path) -> None:
    build = ("--kinds", "log_mel-80", "--num_proc", "1")
    only_own = 'data.sources={"own": {"manifest": "own.tsv"}}'
    for sources in (only_own, SOURCES):
        finished = run_script("build_features.py", corpus, *build, sources)
        assert finished.returncode == 0, finished.stderr
    assert "24 utterances are copied from another cache" in finished.stderr
    cache = open_feature_cache(
        corpus / "data/splits", corpus / "data/features", LOG_MEL_80, audio_root=corpus
    )
    sources_of_rows = [source for split in SPLITS for source in cache[split]["data_source"]]
    assert sorted(sources_of_rows) == ["english"] * 13 + ["own"] * 24
    again = run_script("build_features.py", corpus, *build, SOURCES)
    assert "nothing to do" in again.stderr
    audit = json.loads((corpus / "data/splits/audit.json").read_text(encoding="utf-8"))
    assert audit["num_utterances_kept"] == 24
    missing = run_script("build_features.py", corpus, *build, SOURCES.replace("own.tsv", "gone.tsv"))
    assert_refused(missing, "gone.tsv")
