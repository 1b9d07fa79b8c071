"""The real script on predictions that are there already: anybody's, without a model."""

import sys
from pathlib import Path

import pytest

from tests.hub.server import LoopbackHub
from tests.script_runs import run_script
from tests.scripts.test_compare_runs import one_word_wrong, right, write_predictions
from tests.tiny_models import whisper_model, whisper_processor
from vietst.data.splits import read_split_file
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.metrics_file import read_metrics
from vietst.evaluation.predictions_file import read_predictions
from vietst.evaluation.report import write_results


def test_predictions_from_elsewhere_get_the_same_scores_files_and_baselines(tmp_path: Path) -> None:
    """Their file has another name and order of columns, and one that nobody here knows."""
    elsewhere = write_predictions(
        tmp_path / "whisperx.csv",
        one_word_wrong,
        translation_hypothesis=lambda number: "mình sẽ sửa cái bug này",
        confidence=lambda number: "0.5",
        audio_path=lambda number: f"clips/{number}.wav",
    )
    (tmp_path / "data" / "clips").mkdir(parents=True)
    (tmp_path / "data" / "clips" / "0.wav").write_bytes(b"RIFF")
    with_audio = ("--audio", "--audio_root", "data")
    write_predictions(tmp_path / "theirs.csv", right)
    stand_in = Path(__file__).with_name("comet_stand_in.py")
    beside = ("--baseline", "theirs.csv", "--comet", f"{sys.executable} {stand_in}", "--comet_model", "small")
    ran = run_script(
        "run_evaluation.py", tmp_path, "--predictions", "whisperx.csv", "--ter", *with_audio, *beside
    )
    assert ran.returncode == 0, ran.stderr
    assert "24 utterances, 12 videos" in ran.stdout
    assert "11.11" in next(line for line in ran.stdout.splitlines() if "WER %" in line)
    results = tmp_path / "outputs" / "results"
    metrics = read_metrics(results / "whisperx_metrics.json")
    assert metrics["wer"] == pytest.approx(100 / 9)
    assert metrics["ter"] == pytest.approx(100 / 6), "one word of six"
    assert "TER" in ran.stdout
    assert metrics["metric_signatures"]["ter"] in ran.stdout
    assert metrics["english_left"] == pytest.approx(100 / 6)
    assert metrics["baselines"].keys() == {"copy", "theirs"}
    assert metrics["baselines"]["theirs"]["wer"] == 0
    assert metrics["comet"] == pytest.approx(500 / 6)
    assert metrics["metric_signatures"]["comet"].startswith("COMET|model:small|")
    assert "latency_s" not in metrics
    assert metrics["facts"]["predictions"] == "whisperx.csv"
    assert read_predictions(results / "whisperx_predictions.csv") == read_predictions(elsewhere)
    report = (results / "whisperx_report.html").read_text(encoding="utf-8")
    assert 'src="../../data/clips/0.wav"' in report
    assert "No player: not found below the audio root." in report


def test_a_model_of_the_hub_is_a_baseline_and_its_commit_tells_whether_it_is_still_the_same(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    test_csv = tiny_corpus / "data" / "splits" / "test.csv"
    rows = [
        Prediction(
            *(str(row["id"]), str(row["video_id"]), float(row["duration"])),
            *(str(row["transcript"]), str(row["translation"]), str(row["transcript"])),
        )
        for row in read_split_file(test_csv)
    ]
    write_results(tmp_path, "theirs", rows, None, {})
    processor = whisper_processor()
    processor.save_pretrained(tmp_path / "tiny")
    whisper_model(processor).save_pretrained(tmp_path / "tiny")
    arguments = (
        *("--predictions", "theirs_predictions.csv", "--baseline", "somebody/whisper-tiny"),
        *("--test_csv", str(test_csv), "--audio_root", str(tiny_corpus)),
    )
    with LoopbackHub(tmp_path / "hub") as hub:
        repository = hub.store.publish("somebody/whisper-tiny", tmp_path / "tiny")
        environment = hub.client_environment(tmp_path / "hf_home")
        ran = run_script("run_evaluation.py", tmp_path, *arguments, environment=environment)
    assert ran.returncode == 0, ran.stderr
    results = tmp_path / "outputs" / "results"
    facts = read_metrics(results / "whisper-tiny_metrics.json")["facts"]
    assert facts["model_version"] == f"commit:{repository.commit_at('main').sha}"
    metrics = read_metrics(results / "theirs_metrics.json")
    assert metrics["wer"] == 0
    assert metrics["baselines"]["whisper-tiny"]["wer"] > 0
    assert "whisper-tiny is scored for its transcripts only" in ran.stdout

    offline = run_script(
        "run_evaluation.py", tmp_path, *arguments, environment=environment | {"HF_HUB_OFFLINE": "1"}
    )
    assert offline.returncode == 0, offline.stderr
    assert "whisper-tiny is there already" in offline.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--predictions", "a.csv", "--batch_size", "16", "--test_csv", "b.csv"),
            "runs no model, so --test_csv, --batch_size cannot be given",
        ),
        (("--predictions", "a.csv", "--model_dir", "outputs/x"), "not allowed with argument"),
        (("--predictions", "a.csv", "--interpolate_with", "b"), "mixes the weights of --model_dir"),
        (("--model_dir", "a", "--shares", "0.5"), "name the base with --interpolate_with"),
        (("--model_dir", "a", "--interpolate_with", "b", "--share", "0.5"), "--share go together"),
        (
            ("--model_dir", "a", "--interpolate_with", "b", "--shares", "0.5,1.5"),
            "1.5 is not between 0 and 1",
        ),
        (("--predictions", "a.csv", "--cascade_source", "vi"), "are for the model of --cascade"),
        (("--model_dir", "a", "--comet_model", "small"), "--comet_model is scored by --comet"),
        (("--model_dir", "a", "--run_name", "b/c"), "'b/c' cannot be a part of a file's name"),
        (("--model_dir", "a", "--batch_size", "-4"), "--batch_size: '-4' is no whole number of at least 1"),
        (("--model_dir", "a", "--num_beams", "0"), "--num_beams: '0' is no whole number of at least 1"),
        (("--model_dir", "a", "--num_workers", "-1"), "'-1' is no whole number of at least 0"),
        ((), "one of the arguments --model_dir --predictions is required"),
        (("--predictions", "missing.csv"), "missing.csv"),
        (("--predictions", "empty.csv"), "no utterances"),
        (("--predictions", "a_predictions.csv", "--output", "."), "choose another --run_name or --output"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_words(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    write_predictions(tmp_path / "a_predictions.csv", one_word_wrong)
    write_predictions(tmp_path / "empty.csv", one_word_wrong, num_videos=0)
    ran = run_script("run_evaluation.py", tmp_path, *arguments)
    assert ran.returncode == 2
    assert said in " ".join(ran.stderr.split())
    assert "Traceback" not in ran.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"a_predictions.csv", "empty.csv"}
