"""A whole audit: one line for each row, whatever interrupts it; nothing measured twice; what is dropped."""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.inference.models import write_model
from tests.memorizing_model import Clip
from tests.patience import HANGS_AFTER_S
from tests.script_runs import run_script
from tests.tiny_models import whisper_model, whisper_processor
from vietst.audit import measuring, rows
from vietst.audit.audit import COLUMNS, RECORD_NAME, SIGNALS_NAME, audit_manifest
from vietst.audit.audit_page import PAGE_NAME
from vietst.audit.decision import apply_drop
from vietst.audit.drop_expression import DropExpression
from vietst.audit.signals import MODEL_SIGNALS, SIGNALS, Kind
from vietst.config import load_config
from vietst.data.audited_manifest import read_audit_summary, summary_path
from vietst.data.features import LOG_MEL_80_NANO
from vietst.data.manifest import REJECTED_NAME
from vietst.data.preparation import prepare_features
from vietst.data.tables import read_table, write_table
from vietst.errors import ManifestError
from vietst.evaluation.scoring_normalizer import NUMBERS_ID

COLUMNS_IN = ("id", "audio_path", "transcript", "translation", "duration", "video_id", "speaker_id")


@pytest.fixture(scope="module")
def corpus(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with rows that are wrong in known ways, at `manifest.tsv`."""
    root = tmp_path_factory.mktemp("audited")
    shutil.copytree(tiny_corpus / "data" / "export" / "audio", root / "data" / "export" / "audio")
    table = read_table(tiny_corpus / "data" / "export" / "manifest_clean.tsv")
    (root / "broken.wav").write_bytes(b"no audio")
    audio, rate_hz = soundfile.read(root / table[0]["audio_path"], dtype="float32")
    soundfile.write(root / "again.ogg", 0.3 * audio, rate_hz)
    soundfile.write(root / "silent.wav", np.concatenate([audio, np.zeros(4 * len(audio))]), rate_hz)
    table += [
        table[1] | {"id": "broken", "audio_path": "broken.wav"},
        table[0] | {"id": "again", "audio_path": "again.ogg", "video_id": "other"},
        table[0] | {"id": "silent", "audio_path": "silent.wav"},
        table[2] | {"id": "copied", "translation": table[2]["transcript"]},
        table[3] | {"id": "untranslated", "translation": ""},
    ]
    write_table(root / "manifest.tsv", table, COLUMNS_IN)
    return root


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROWS_OF_A_BLOCK", 10)


def audit(corpus: Path, output: Path, **options: object) -> dict[str, object]:
    return audit_manifest(
        corpus / "manifest.tsv", output, audio_root=corpus, **{"num_proc": 1, "progress": False} | options
    )


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(rows, "ROWS_OF_A_BLOCK", 10)
        audit(corpus, output)
    return output


def signals_of(output: Path) -> dict[str, dict[str, str]]:
    return {row["id"]: row for row in read_table(output / SIGNALS_NAME)}


def test_every_row_has_a_line_in_the_manifests_order(corpus, finished) -> None:
    table = read_table(corpus / "manifest.tsv")
    found = read_table(finished / SIGNALS_NAME)
    assert [(row["id"], row["audio_path"]) for row in found] == [(r["id"], r["audio_path"]) for r in table]
    assert tuple(found[0]) == COLUMNS
    assert not any(row[signal.name] for row in found for signal in MODEL_SIGNALS)


def test_what_is_wrong_with_a_row_stands_there(corpus, finished) -> None:
    found, first = signals_of(finished), read_table(corpus / "manifest.tsv")[0]["id"]
    assert found["broken"]["audio_error"] == "audio_unreadable"
    assert not any(found["broken"][name] for name in ("duration", "speech", "syllables_per_second"))
    assert found["broken"]["length_ratio"]
    assert found["again"]["duplicate_of"] == first
    assert float(found["silent"]["silence"]) > 0.7
    assert float(found["silent"]["syllable_rate_z"]) < -5
    assert found["copied"]["copy"] == "1"
    assert found["untranslated"]["length_ratio"] == ""
    usual = [row for row in found.values() if row["id"] not in ("broken", "again", "silent", "copied")]
    assert sum(row["duplicate_of"] != "" for row in usual) == 1, "only 'untranslated' has audio of a row"
    assert max(float(row["silence"]) for row in usual) < 0.3


def test_the_record_tells_what_was_audited_and_how_much_each_threshold_keeps(corpus, finished) -> None:
    record = json.loads((finished / RECORD_NAME).read_text(encoding="utf-8"))
    assert record["manifest"]["num_rows"] == 65
    assert [signal["name"] for signal in record["signals"]] == [signal.name for signal in SIGNALS]
    found = signals_of(finished).values()
    hours = sum(float(row["duration"] or 0) for row in found) / 3600
    for told in record["signals"]:
        for curve in told["curves"]:
            point = min(2, len(curve["thresholds"]) - 1)
            expression = DropExpression(
                f"{told['name']} {'>' if curve['drops'] == 'above' else '<'} {curve['thresholds'][point]}"
            )
            kept = [row for row in found if not expression.drops(row)]
            assert curve["rows_kept"][point] == len(kept)
            assert curve["hours_kept"][point] == pytest.approx(
                sum(float(r["duration"] or 0) for r in kept) / 3600, abs=1e-5
            )
            assert max(curve["hours_kept"]) == pytest.approx(hours, abs=1e-5)
    assert next(t for t in record["signals"] if t["name"] == "silence")["curves"]
    assert not any(t["curves"] for t in record["signals"] if t["kind"] in (Kind.TEXT, Kind.FACT))


def test_several_processes_measure_the_same(corpus, finished, tmp_path) -> None:
    run = run_script(
        "audit_manifest.py",
        corpus,
        "--manifest",
        "manifest.tsv",
        "--output",
        str(tmp_path),
        "--num_proc",
        "2",
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / SIGNALS_NAME).read_bytes() == (finished / SIGNALS_NAME).read_bytes()
    assert (tmp_path / PAGE_NAME).is_file()


def run_and_be_killed(target: Callable[[], object]) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    process.join(HANGS_AFTER_S)
    return process.exitcode


def killing(name: str, fatal_call: int) -> Callable[..., None]:
    """`write_table`, but the n-th call of the process writes a part of its file and is killed."""
    num_calls = 0

    def write(path: Path, cells: list[dict[str, str]], columns: tuple[str, ...]) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls == fatal_call:
            (path.parent / f".{path.name}.{os.getpid()}.tmp").write_text(name, encoding="utf-8")
            os.kill(os.getpid(), signal.SIGKILL)
        write_table(path, cells, columns)

    return write


@pytest.mark.skipif(os.name == "nt", reason="forks and kills")
def test_a_killed_audit_goes_on_to_the_same_bytes(corpus, finished, tmp_path) -> None:
    def audit_and_die() -> None:
        measuring.write_table = killing("half a block", fatal_call=4)
        audit(corpus, tmp_path)

    assert run_and_be_killed(audit_and_die) == -signal.SIGKILL
    folder = tmp_path / "work" / "rows"
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*.tsv")}
    assert len(written) == 3
    assert not (tmp_path / RECORD_NAME).exists()
    audit(corpus, tmp_path)
    assert (tmp_path / SIGNALS_NAME).read_bytes() == (finished / SIGNALS_NAME).read_bytes()
    assert {path: path.stat().st_mtime_ns for path in written} == written, "what was measured stays"
    assert len(list(folder.iterdir())) == 7, "what the killed process left is gone"


def test_the_same_rows_are_not_measured_again_and_changed_ones_are(
    corpus, finished, tmp_path, monkeypatch
) -> None:
    shutil.copytree(finished, tmp_path / "audit")
    measured: list[int] = []
    monkeypatch.setattr(
        measuring,
        "_measure_block",
        lambda job, measure=measuring._measure_block: measured.append(job.block.number) or measure(job),
    )
    audit(corpus, tmp_path / "audit")
    assert measured == []
    table = read_table(corpus / "manifest.tsv")
    table[12]["transcript"] += " nhé"
    table += [table[5] | {"id": "new"}]
    write_table(tmp_path / "manifest.tsv", table, COLUMNS_IN)
    audit_manifest(
        tmp_path / "manifest.tsv", tmp_path / "audit", audio_root=corpus, num_proc=1, progress=False
    )
    assert measured == [1, 6], "the block of the changed row, and the last one, which has one row more"
    assert signals_of(tmp_path / "audit")["new"]["duplicate_of"] == table[5]["id"]


def test_rows_are_measured_again_when_numbers_are_compared_by_other_rules() -> None:
    assert NUMBERS_ID in measuring.STAGE_SETTINGS.values()


def test_what_is_dropped_is_rejected_like_any_other_row(corpus, finished, tmp_path) -> None:
    output, kept_path = tmp_path / "audit", tmp_path / "kept.tsv"
    shutil.copytree(finished, output)
    record = audit(corpus, output)
    expression = DropExpression("audio_error or silence > 0.5 or duplicate_of or wer > 0.1")
    summary = apply_drop(record, output, expression, kept_path)
    table = read_table(corpus / "manifest.tsv")
    gone = {row["id"]: row for row in read_table(output / REJECTED_NAME)}
    assert set(gone) == {"broken", "again", "silent", "copied", "untranslated"}
    assert gone["again"]["line"] == str(2 + [row["id"] for row in table].index("again"))
    assert {row["reason"] for row in gone.values()} == {"audit"}
    assert gone["again"]["detail"] == f"duplicate_of {table[0]['id']}"
    assert read_table(kept_path) == [row for row in table if row["id"] not in gone]
    assert json.loads(summary_path(kept_path).read_text(encoding="utf-8")) == summary
    assert summary["audit"]["key"] == record["key"]
    assert (summary["output"]["num_rows"], summary["dropped"]["num_rows"]) == (60, 5)


def test_a_manifest_of_which_nothing_is_left_is_refused(corpus, finished, tmp_path) -> None:
    shutil.copytree(finished, tmp_path / "audit")
    record = audit(corpus, tmp_path / "audit")
    with pytest.raises(ManifestError, match="all 65 rows are dropped"):
        apply_drop(
            record,
            tmp_path / "audit",
            DropExpression("length_ratio > 0 or not copy > 2 or not copy < 2 or duration > 0 or audio_error"),
            tmp_path / "kept.tsv",
        )
    assert not (tmp_path / "kept.tsv").exists()
    with pytest.raises(ManifestError, match="the audited manifest itself"):
        apply_drop(record, tmp_path / "audit", DropExpression("wer > 1"), corpus / "manifest.tsv")


def test_features_are_built_from_what_an_audit_left(tiny_corpus, tmp_path, monkeypatch) -> None:
    """Not from the cleaned manifest, made again."""
    root = tmp_path / "corpus"
    shutil.copytree(tiny_corpus, root)
    export = root / "data" / "export"
    monkeypatch.chdir(root)
    record = audit_manifest(
        export / "manifest_clean.tsv", root / "audit", audio_root=root, num_proc=1, progress=False
    )
    dropped = read_table(export / "manifest_clean.tsv")[7]["id"]
    value = signals_of(root / "audit")[dropped]["level_dbfs"]
    kept = export / "manifest_audited.tsv"
    apply_drop(record, root / "audit", DropExpression(f"level_dbfs == {value}"), kept)
    assert read_audit_summary(export / "manifest_clean.tsv") is None
    config = load_config(
        "nano_whisper",
        [
            f"paths.clean_manifest_path={kept.as_posix()}",
            "paths.splits_dir=new/splits",
            "paths.features_dir=new/features",
        ],
    ).config
    prepare_features(config, [LOG_MEL_80_NANO], num_proc=1, progress=False)
    ids = {
        row["id"]
        for split in ("train", "dev", "test")
        for row in read_table(root / "new" / "splits" / f"{split}.csv")
    }
    assert len(ids) == 59
    assert dropped not in ids
    kept.write_text(kept.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="audit again"):
        read_audit_summary(kept)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--drop", "silense > 0.5"), "write silence"),
        (("--drop", "silence > 0.5 or wer > 0.7"), "wer without --model"),
        (("--manifest", "none.tsv"), "no such file"),
        (("--model", "no_such_model"), "no_such_model"),
    ],
)
def test_a_users_mistake_is_told_in_words(corpus, arguments, told) -> None:
    run = run_script(
        "audit_manifest.py", corpus, "--manifest", "manifest.tsv", "--output", "mistakes", *arguments
    )
    assert run.returncode == 2
    assert told in run.stderr
    assert "Traceback" not in run.stderr


def test_a_seed_model_says_what_it_hears_whatever_is_in_the_batch(
    tiny_corpus, memorizing_model: tuple[Path, list[Clip]], tmp_path
) -> None:
    folder, clips = memorizing_model
    by_path = {row["audio_path"]: row for row in read_table(tiny_corpus / "data" / "splits" / "train.csv")}
    table = [by_path[clip.audio.relative_to(tiny_corpus).as_posix()] for clip in clips]
    wrong = [
        table[0]
        | {"id": "other", "transcript": table[1]["transcript"], "translation": table[1]["translation"]},
        table[0] | {"id": "late", "transcript": f"vậy thì {table[0]['transcript']}"},
        table[0] | {"id": "early", "transcript": table[0]["transcript"].partition(" ")[2]},
        table[0] | {"id": "untranslated", "translation": ""},
    ]
    write_table(tmp_path / "manifest.tsv", [*table, *wrong], COLUMNS_IN)
    options = {"audio_root": tiny_corpus, "model": str(folder), "num_proc": 1, "progress": False}
    audit_manifest(tmp_path / "manifest.tsv", tmp_path / "audit", **options)
    found = signals_of(tmp_path / "audit")
    for row, clip in zip(table, clips, strict=True):
        cells = found[row["id"]]
        assert (cells["recognized"], cells["translated"]) == (clip.transcript, clip.translation)
        assert (cells["wer"], cells["translation_chrf"]) == ("0", "100")
        assert abs(float(cells["logprob_gap"])) < 0.01
        assert float(cells["logprob_per_second"]) > -1
    assert float(found["other"]["wer"]) > 0.5
    assert float(found["other"]["logprob_gap"]) > 1
    assert float(found["other"]["translation_logprob_gap"]) > 1
    assert float(found["other"]["translation_chrf"]) < 60
    assert (found["late"]["deleted_start"], found["late"]["inner_wer"]) == ("2", "0")
    assert (found["early"]["inserted_start"], found["early"]["inner_wer"]) == ("1", "0")
    assert found["untranslated"]["translated"] == clips[0].translation
    assert found["untranslated"]["translation_logprob_per_second"] == ""
    write_table(tmp_path / "alone.tsv", [wrong[0]], COLUMNS_IN)
    audit_manifest(tmp_path / "alone.tsv", tmp_path / "alone", **options)
    alone = signals_of(tmp_path / "alone")["other"]
    for signal_ in MODEL_SIGNALS:
        together = found["other"][signal_.name]
        if signal_.kind is Kind.TEXT:
            assert alone[signal_.name] == together
        else:
            assert float(alone[signal_.name]) == pytest.approx(float(together), abs=2e-3)


def test_any_model_and_any_manifest_will_do(tiny_corpus, tmp_path) -> None:
    """An E2E model, and a stock Whisper, over a CSV that has paths and texts only."""
    table = read_table(tiny_corpus / "data" / "export" / "manifest_clean.tsv")[:5]
    write_table(tmp_path / "rows.csv", table, ("audio_path", "transcript", "translation"))
    stock = tmp_path / "stock"
    processor = whisper_processor()
    whisper_model(processor).save_pretrained(stock)
    processor.save_pretrained(stock)
    for name, model in (("e2e", write_model(tmp_path / "e2e_model", "e2e")), ("stock", stock)):
        audit_manifest(
            tmp_path / "rows.csv",
            tmp_path / name,
            audio_root=tiny_corpus,
            model=str(model),
            num_proc=1,
            progress=False,
        )
        found = read_table(tmp_path / name / SIGNALS_NAME)
        assert [row["id"] for row in found] == [row["audio_path"] for row in table]
        for cells in found:
            assert cells["wer"]
            assert float(cells["logprob_per_second"]) < 0
            assert (cells["translation_chrf"] != "") == (name == "e2e")
            assert (cells["translation_logprob_gap"] != "") == (name == "e2e")


def test_a_clip_longer_than_the_models_window_is_not_judged(tiny_corpus, memorizing_model, tmp_path) -> None:
    folder, clips = memorizing_model
    audio, rate_hz = soundfile.read(clips[0].audio)
    soundfile.write(tmp_path / "long.wav", np.tile(audio, 4), rate_hz)
    write_table(
        tmp_path / "m.tsv", [{"audio_path": "long.wav", "transcript": "ok"}], ("audio_path", "transcript")
    )
    audit_manifest(
        tmp_path / "m.tsv",
        tmp_path / "audit",
        audio_root=tmp_path,
        model=str(folder),
        num_proc=1,
        progress=False,
    )
    (cells,) = read_table(tmp_path / "audit" / SIGNALS_NAME)
    assert float(cells["duration"]) > 4
    assert not any(cells[signal_.name] for signal_ in MODEL_SIGNALS)


def test_texts_are_asked_for_in_the_style_that_the_model_was_taught(
    tiny_corpus, memorizing_model, tmp_path
) -> None:
    folder, clips = memorizing_model
    clip = next(clip for clip in clips if clip.transcript.islower() and clip.translation.islower())
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["vietst"]["text_style"] = "lower_nopunct"
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    row = {
        "audio_path": clip.audio.relative_to(tiny_corpus).as_posix(),
        "transcript": f"{clip.transcript.upper()}!",
        "translation": f"{clip.translation.upper()}.",
    }
    write_table(tmp_path / "m.tsv", [row], ("audio_path", "transcript", "translation"))
    gaps = {}
    for name, path in (("as it is", folder), ("lower", model)):
        audit_manifest(
            tmp_path / "m.tsv",
            tmp_path / name,
            audio_root=tiny_corpus,
            model=str(path),
            num_proc=1,
            progress=False,
        )
        (gaps[name],) = read_table(tmp_path / name / SIGNALS_NAME)
    assert float(gaps["as it is"]["logprob_gap"]) > 1
    assert gaps["lower"]["wer"] == gaps["as it is"]["wer"] == "0"
    assert abs(float(gaps["lower"]["logprob_gap"])) < 0.01
    assert abs(float(gaps["lower"]["translation_logprob_gap"])) < 0.01
    assert gaps["lower"]["translation_chrf"] == "100"
