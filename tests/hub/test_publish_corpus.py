"""The corpus without its audio: what `datasets` reads of it is what the splits and the audit say."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.data.test_splits import COLUMNS, make_rows
from tests.hub.server import TOKEN, LoopbackHub
from tests.user_machine import Machine, assert_refused
from vietst.audit.signals import SIGNAL_OF
from vietst.config import load_config
from vietst.config_schema import RunConfig
from vietst.constants import SPLITS
from vietst.data.splits import read_split, split_manifest
from vietst.data.tables import read_table, write_table
from vietst.errors import HubError
from vietst.hub.corpus_by_hand import CorpusOptions, publish_corpus
from vietst.hub.corpus_publishing import push_corpus
from vietst.hub.metadata_rules import check_card

CONTENT = [*COLUMNS, "video_start_s", "verified", "source_url"]
SIGNAL_COLUMNS = ["id", "audio_path", "duration", "wer", "speech", "duplicate_of", "recognized", "snr_db"]


def write_corpus_files(root: Path, **changed: str) -> RunConfig:
    """Splits of 30 utterances in 10 videos, with an audit of all but one; `changed`: in the first row."""
    rows = [
        {
            **row,
            "speaker_id": f"s{number // 3}",
            "video_start_s": f"{number}.5" if number % 2 else "",
            "verified": ("true", "false", "")[number % 3],
            "source_url": f"https://example.org/{row['video_id']}",
        }
        for number, row in enumerate(make_rows(10))
    ]
    rows[0] |= changed
    write_table(root / "data/export/manifest_clean.tsv", rows, CONTENT)
    split_manifest(root / "data/export/manifest_clean.tsv", root / "data/splits")
    signals = [
        {
            **row,
            "wer": f"{number / 30:.4f}",
            "speech": "" if number % 2 else "0.9",
            "duplicate_of": {7: rows[0]["id"], 8: "dropped-0001"}.get(number, ""),
            "recognized": "bí mật",
            "snr_db": "",
        }
        for number, row in enumerate(rows[1:], 1)
    ]
    write_table(root / "data/audit/signals.tsv", signals, SIGNAL_COLUMNS)
    record = {"model": {"name": "/home/somebody/nano_whisper"}}
    (root / "data/audit/audit.json").write_text(json.dumps(record), encoding="utf-8")
    overrides = ("splits_dir=data/splits", "output_dir=outputs", "takedown_path=data/takedown.txt")
    paths = [f"paths.{name}={(root / place).as_posix()}" for name, place in (o.split("=") for o in overrides)]
    return load_config("base", paths).config


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return write_corpus_files(tmp_path)


def expected_rows(root: Path, split: str) -> list[dict[str, Any]]:
    signals = {row["id"]: row for row in read_table(root / "data/audit/signals.tsv")}
    rows = []
    for row in read_split(root / "data/splits", split):
        of_row = signals.get(row["id"])
        rows.append(
            {
                "id": row["id"],
                "video_id": row["video_id"],
                "source_url": row["source_url"],
                "video_start_s": float(row["video_start_s"]) if row["video_start_s"] else None,
                "duration_s": 2.0,
                "speaker_id": row["speaker_id"],
                "transcript": row["transcript"],
                "translation": row["translation"],
                "verified": {"true": True, "false": False, "": None}[row["verified"]],
                "is_audited": of_row is not None,
                "audit_duration": 2.0 if of_row else None,
                "audit_speech": float(of_row["speech"]) if of_row and of_row["speech"] else None,
                "audit_duplicate_of": "v000-0000" if row["id"] == "v002-0001" else None,
                "audit_wer": float(of_row["wer"]) if of_row else None,
            }
        )
    return rows


def test_the_folder_has_the_rows_of_the_splits_and_the_signals_of_the_audit(
    config: RunConfig, tmp_path: Path
) -> None:
    corpus = publish_corpus(config, CorpusOptions())
    assert corpus.folder == tmp_path / "outputs/corpus"
    assert (corpus.num_rows, corpus.num_with_signals) == (30, 29)
    assert corpus.left_out == ["audio_path", "channel_id", "title"]
    dataset = datasets.load_dataset(str(corpus.folder), cache_dir=str(tmp_path / "cache"))
    assert list(dataset) == list(SPLITS)
    for split in SPLITS:
        assert dataset[split].to_list() == expected_rows(tmp_path, split)
    files = {path: path.read_bytes() for path in corpus.folder.rglob("*") if path.is_file()}
    assert len(files) == 4
    publish_corpus(config, CorpusOptions())
    assert {path: path.read_bytes() for path in files} == files


def test_the_card_says_what_is_recorded_and_nothing_of_the_machine(config: RunConfig, tmp_path: Path) -> None:
    options = CorpusOptions(license="cc-by-nc-4.0", contact="mail@example.org")
    card = publish_corpus(config, options).folder / "README.md"
    text = card.read_text(encoding="utf-8")
    assert check_card(card) == []
    audit = json.loads((tmp_path / "data/splits/audit.json").read_text(encoding="utf-8"))
    assert audit["split_hash"] in text
    facts = audit["splits"]["train"]
    assert f"| train | {facts['num_utterances']} | 0.01 | {facts['num_videos']} |" in text
    for said in (
        "license: cc-by-nc-4.0",
        "asks\nmail@example.org",
        f"| `audit_wer` | float64 | share | {SIGNAL_OF['wer'].description} |",
        "signals of an audit of 29 of these utterances",
        "nano_whisper, a model of their own",
        "- n<1K",
    ):
        assert said in text
    for hidden in ("somebody", str(tmp_path), "bí mật", "audio/v000"):
        assert hidden not in text
    publish_corpus(config, CorpusOptions())
    assert "Community tab" in card.read_text(encoding="utf-8")
    assert "Not stated" in card.read_text(encoding="utf-8")


def test_a_joined_corpus_says_of_each_row_its_source_and_language(tmp_path: Path) -> None:
    config = write_corpus_files(tmp_path)
    manifest = tmp_path / "data/export/manifest_clean.tsv"
    of_video = {"v000": ("talks", "en"), "v001": ("talks", "")}
    rows = []
    for row in read_table(manifest):
        source, language = of_video.get(row["video_id"], ("own", ""))
        rows.append({**row, "data_source": source, "language": language})
    write_table(manifest, rows, [*CONTENT, "data_source", "language"])
    split_manifest(manifest, tmp_path / "data/splits", fresh=True)
    corpus = publish_corpus(config, CorpusOptions())
    published = datasets.load_dataset(str(corpus.folder), cache_dir=str(tmp_path / "cache"))
    found = {(row["id"], row["data_source"], row["language"]) for split in SPLITS for row in published[split]}
    assert found == {(row["id"], row["data_source"], row["language"] or None) for row in rows}
    card = (corpus.folder / "README.md").read_text(encoding="utf-8")
    assert "| `language` | string |" in card
    assert "| `data_source` | string |" in card


def test_addresses_are_made_from_a_column(config: RunConfig, tmp_path: Path) -> None:
    corpus = publish_corpus(config, CorpusOptions(source_url="https://example.org/watch?v={id}&t=1"))
    rows = datasets.load_dataset(str(corpus.folder), split="test", cache_dir=str(tmp_path / "cache"))
    assert rows["source_url"][:] == [f"https://example.org/watch?v={name}&t=1" for name in rows["id"]]
    wrong = ("https://example.org/", "https://example.org/{video}", "file:///{video_id}", "https://e.org/{id")
    for address in wrong:
        with pytest.raises(HubError, match="--source_url"):
            publish_corpus(config, CorpusOptions(source_url=address))


def test_the_address_of_a_pushed_corpus_shows_no_password(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://mai:secret@hub.example")
    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", lambda *args, **kwargs: None)
    corpus = publish_corpus(config, CorpusOptions())
    assert push_corpus("mai/talks", corpus, public=False) == "https://hub.example/datasets/mai/talks"


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "/home/somebody/clips/1.wav"},
        {"source_url": "C:\\videos\\1.mp4"},
        {"transcript": "token là hf_abcdefghijklmnopqrst nhé"},
    ],
)
def test_what_tells_about_the_machine_is_refused(tmp_path: Path, changed: dict[str, str]) -> None:
    with pytest.raises(HubError, match="the machine or the account"):
        publish_corpus(write_corpus_files(tmp_path, **changed), CorpusOptions())


def test_a_time_that_is_no_number_is_refused_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="video_start_s of v000-0000"):
        publish_corpus(write_corpus_files(tmp_path, video_start_s="00:01:30"), CorpusOptions())


@pytest.mark.parametrize("change", [{"rules_version": 1}, {"splits": {}}])
def test_splits_that_are_not_those_of_their_audit_are_refused(
    config: RunConfig, change: dict[str, Any]
) -> None:
    path = config.paths.splits_dir / "audit.json"
    audit = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(audit | change), encoding="utf-8")
    with pytest.raises(HubError, match=r"train\.csv") as caught:
        publish_corpus(config, CorpusOptions())
    assert "split_data.py" in caught.value.do


def test_a_broken_record_of_the_audit_is_refused_before_anything_is_written(
    config: RunConfig, tmp_path: Path
) -> None:
    record = tmp_path / "data/audit/audit.json"
    record.write_text('{"model": ', encoding="utf-8")
    with pytest.raises(HubError, match="a record as it was written") as caught:
        publish_corpus(config, CorpusOptions())
    assert caught.value.where == str(record)
    assert not (tmp_path / "outputs").exists()


def test_an_output_that_is_a_file_is_told(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "corpus").write_text("a file")
    with pytest.raises(HubError, match="name another --output"):
        publish_corpus(config, CorpusOptions(output=tmp_path / "corpus"))


def test_what_is_to_be_taken_down_is_not_published(config: RunConfig, tmp_path: Path) -> None:
    config.paths.takedown_path.write_text("v003\n", encoding="utf-8")
    with pytest.raises(HubError, match="takedown") as caught:
        publish_corpus(config, CorpusOptions())
    assert caught.value.do == "python scripts/take_down.py"
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("license", ["cc-by-9", "other"])
def test_a_license_that_a_card_cannot_carry_is_refused_before_anything_is_written(
    config: RunConfig, tmp_path: Path, license: str
) -> None:
    with pytest.raises(HubError, match=f"--license.{license}"):
        publish_corpus(config, CorpusOptions(license=license))
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_others_load_it_from_the_hub_and_nothing_is_sent_twice(repo_root: Path, tmp_path: Path) -> None:
    write_corpus_files(tmp_path)
    with LoopbackHub(tmp_path / "hub") as hub:
        machine = Machine(repo_root, tmp_path, tmp_path, hub)

        def push(*arguments: str, **environment: str) -> Any:
            options = ("--push_to_hub", "tester/corpus", *arguments)
            return machine.run("publish_corpus.py", *options, **({"HF_TOKEN": TOKEN} | environment))

        first = push()
        assert first.returncode == 0, first.stderr
        assert "who may see the private repository" in first.stderr
        assert TOKEN not in first.stdout + first.stderr
        repository = hub.store.repositories["dataset", "tester/corpus"]
        assert repository.access == "private"
        commit, num_uploads = repository.commit_at("main"), len(hub.asked("^PUT /_lfs/"))
        assert set(commit.files) == {
            ".gitattributes",
            "README.md",
            *(f"data/{split}-00000-of-00001.parquet" for split in SPLITS),
        }
        read = (
            "import datasets, json; d = datasets.load_dataset('tester/corpus');"
            "print(json.dumps({split: rows.to_list() for split, rows in d.items()}))"
        )
        loaded = machine.python(["-c", read], HF_TOKEN=TOKEN)
        assert loaded.returncode == 0, loaded.stderr
        assert json.loads(loaded.stdout) == {split: expected_rows(tmp_path, split) for split in SPLITS}
        assert push().returncode == 0
        assert repository.commit_at("main") == commit
        assert len(hub.asked("^PUT /_lfs/")) == num_uploads
        assert_refused(push("--public"), "a private repository")
