"""What stands beside a run: models from elsewhere, predictions files, a cascade, and COMET's scores."""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny_e2e import write_decoder
from tests.tiny_models import whisper_model, whisper_processor
from vietst.config import load_config
from vietst.errors import ModelError, VietstError
from vietst.evaluation.beside import BesideOptions
from vietst.evaluation.cascade import CascadeOptions
from vietst.evaluation.comet import CometOptions
from vietst.evaluation.evaluate_model import evaluate_model
from vietst.evaluation.evaluate_predictions import evaluate_predictions_file
from vietst.evaluation.interpolation import InterpolationOptions, evaluate_with_interpolation
from vietst.evaluation.metrics import Prediction, written_in
from vietst.evaluation.metrics_file import read_metrics
from vietst.evaluation.predictions_file import read_predictions, scored_predictions
from vietst.evaluation.report import write_results
from vietst.evaluation.scoring import ScoringOptions, SplitOptions
from vietst.models.architectures import ARCHITECTURES, WHISPER
from vietst.models.model_record import record_of, write_model_record
from vietst.models.text_translation import LanguagePair, TextTranslator

STAND_IN = Path(__file__).parents[1] / "scripts" / "comet_stand_in.py"
SHORT = ("evaluation.max_new_tokens_base=5", "evaluation.max_new_tokens_per_second=0.01")


def write_model(folder: Path, *overrides: str, is_ours: bool = True) -> Path:
    """A tiny untrained Whisper, with the record of a training here or without."""
    processor = whisper_processor()
    model = whisper_model(processor)
    if is_ours:
        write_model_record(model, record_of(load_config("nano_whisper", [*SHORT, *overrides]).config))
    processor.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def evaluate(tiny_corpus: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`evaluate(model)`: of 15 utterances, into `tmp_path / "results"`; returns the metrics."""

    def run(
        model: Path, *baselines: Path, task: str | None = None, num_beams: int | None = None, **beside: Any
    ) -> dict[str, Any]:
        return evaluate_model(
            model_dir=str(model),
            model_type=None,
            task=task,
            split=SplitOptions(tiny_corpus / "data" / "splits" / "test.csv", tiny_corpus, 8, num_beams, 0),
            scoring=ScoringOptions(tmp_path / "results"),
            beside=BesideOptions(baselines=[str(path) for path in baselines], **beside),
        )

    return run


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models whose weights are loaded from now on."""
    names: list[str] = []

    def load(name_or_path: str, **options: Any) -> Any:
        names.append(Path(name_or_path).name)
        return WHISPER.load_model(name_or_path, **options)

    monkeypatch.setitem(ARCHITECTURES, "whisper", dataclasses.replace(WHISPER, load_model=load))
    return names


def comet(model: str = "wmt22-comet-da") -> CometOptions:
    return CometOptions(f"{sys.executable} {STAND_IN}", model)


# --- models -------------------------------------------------------------------------------------------------


def test_a_model_from_elsewhere_is_scored_for_its_transcripts_and_says_why(
    evaluate: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stock = write_model(tmp_path / "whisper-stock", is_ours=False)
    metrics = evaluate(stock)
    assert "wer" in metrics
    assert "bleu" not in metrics
    assert metrics["facts"]["decoding"]["tasks"] == ["transcribe"]
    said = "whisper-stock is scored for its transcripts only: it carries no record of a training here"
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "results" / "whisper-stock_report.html").read_text(encoding="utf-8")
    assert "bleu" in evaluate(stock, task="both"), "who asks for both gets both"


def test_a_copy_of_a_trained_model_is_run_as_its_record_says(
    evaluate: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    overrides = ("model.task=transcribe", "evaluation.test_num_beams=2")
    decoding = evaluate(write_model(tmp_path / "ours", *overrides))["facts"]["decoding"]
    assert (decoding["tasks"], decoding["num_beams"]) == (["transcribe"], 2)
    assert (decoding["tokens_base"], decoding["tokens_per_second"]) == (5, 0.01)


def test_a_baseline_is_decoded_once_and_again_where_it_changes(
    evaluate: Callable[..., dict[str, Any]], loaded: list[str], tmp_path: Path
) -> None:
    ours = write_model(tmp_path / "ours")
    stock = write_model(tmp_path / "whisper-stock", is_ours=False)
    metrics = evaluate(ours, stock)
    assert loaded == ["whisper-stock", "ours"]
    row, alone = (
        metrics["baselines"]["whisper-stock"],
        read_metrics(tmp_path / "results" / "whisper-stock_metrics.json"),
    )
    assert row["wer"] == alone["wer"]
    assert row["pier"] == alone["code_switching"]["pier"]
    assert "bleu" not in row
    assert "transcripts only" in row["note"]
    assert len(read_predictions(tmp_path / "results" / "whisper-stock_predictions.csv")) == 15

    loaded.clear()
    again = evaluate(ours, stock)
    assert loaded == ["ours"]
    assert again["baselines"] == metrics["baselines"]
    evaluate(ours, stock, num_beams=2)
    assert loaded == ["ours", "whisper-stock", "ours"], "other beams are another baseline"
    loaded.clear()
    model = whisper_model(whisper_processor())
    torch.nn.init.normal_(model.model.decoder.embed_tokens.weight)
    model.save_pretrained(stock)
    evaluate(ours, stock, num_beams=2)
    assert loaded == ["whisper-stock", "ours"], "other weights are another model"


def test_results_that_cannot_be_written_are_refused_before_anything_is_decoded(
    evaluate: Callable[..., dict[str, Any]], loaded: list[str], tmp_path: Path
) -> None:
    (tmp_path / "results").touch()
    with pytest.raises(VietstError, match="a folder that can be written to"):
        evaluate(write_model(tmp_path / "ours"))
    assert loaded == []


def test_a_model_of_another_kind_is_refused_before_anything_is_decoded(
    evaluate: Callable[..., dict[str, Any]], loaded: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="a model type that can be loaded here"):
        evaluate(write_model(tmp_path / "ours"), write_decoder(tmp_path / "mbart"))
    assert loaded == []


# --- predictions files --------------------------------------------------------------------------------------


ROWS = [
    Prediction(
        id=f"u{number}",
        video_id=f"v{number}",
        duration_s=2.0,
        transcript="mình sẽ fix cái bug này",
        translation="mình sẽ sửa cái lỗi này",
        transcript_hypothesis="mình sẽ phích cái bug này",
        translation_hypothesis="mình sẽ sửa cái bug này",
    )
    for number in range(3)
]


@pytest.fixture
def score(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`score(*baselines)`: of `ROWS`, from a file, into `tmp_path / "results"`; returns the metrics."""

    def run(*baselines: Path, rows: list[Prediction] = ROWS, **beside: Any) -> dict[str, Any]:
        return evaluate_predictions_file(
            predictions=write_file(tmp_path, "ours", rows),
            split=SplitOptions(tmp_path / "none.csv", tmp_path, 8, None, 0),
            scoring=ScoringOptions(tmp_path / "results"),
            beside=BesideOptions(baselines=[str(path) for path in baselines], **beside),
        )

    return run


def write_file(folder: Path, name: str, rows: list[Prediction]) -> Path:
    return write_results(folder, name, rows, None, {})[1]


def test_anybodys_predictions_are_a_row_in_whatever_order_and_number_they_come(
    score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Only the utterances of the run count."""
    right = [replace(row, transcript_hypothesis=row.transcript) for row in reversed(ROWS)]
    more = replace(ROWS[0], id="more", transcript_hypothesis="sai")
    row = score(write_file(tmp_path, "theirs", [more, *right]))["baselines"]["theirs"]
    assert row["wer"] == 0
    assert row["bleu"] > 0
    assert not (tmp_path / "results" / "theirs_predictions.csv").exists(), "they have a place already"


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (ROWS[:2], "it has no predictions of 1 of 3 utterances, such as u2"),
        (
            [replace(row, transcript=f"{row.transcript} nhé") for row in ROWS],
            "it was scored on other references, such as those of u0",
        ),
    ],
    ids=["utterances missing", "other references"],
)
def test_what_cannot_be_compared_stands_without_scores_and_says_why(
    theirs: list[Prediction],
    why: str,
    score: Callable[..., dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics = score(write_file(tmp_path, "theirs", theirs))
    assert metrics["baselines"]["theirs"] == {"note": f"theirs stands here without scores: {why}."}
    assert why in capsys.readouterr().out


def test_beside_a_run_of_a_plainer_style_all_are_scored_in_that(
    score: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"transcript": "Mình sẽ fix cái bug này.", "translation": "Mình sẽ sửa cái lỗi này."}
    as_is = [
        replace(row, **texts, **{f"{name}_hypothesis": text for name, text in texts.items()}) for row in ROWS
    ]
    plain = [written_in(row, "lower_nopunct") for row in as_is]
    monkeypatch.setattr(
        TextTranslator, "translate", lambda _, heard, size: [texts["translation"]] * len(heard)
    )
    cascade = CascadeOptions(str(write_decoder(tmp_path / "mbart")), LanguagePair(source="vi"), batch_size=2)
    metrics = score(write_file(tmp_path, "theirs", as_is), rows=plain, cascade=cascade)
    for name in ("theirs", "ours_cascade_mbart"):
        row = metrics["baselines"][name]
        assert (row["wer_raw"], row["bleu"]) == (0, pytest.approx(100)), name
        assert "note" not in row
    metrics = score(write_file(tmp_path, "theirs", plain), rows=as_is)
    assert "theirs is scored in text style lower_nopunct" in metrics["baselines"]["theirs"]["note"]


@pytest.mark.parametrize("name", ["ours", "copy"])
def test_a_name_that_is_taken_is_refused(
    name: str, score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(VietstError, match="a name of its own"):
        score(write_file(tmp_path / "elsewhere", name, ROWS))


# --- a cascade ----------------------------------------------------------------------------------------------


def test_a_cascade_translates_the_transcripts_of_the_run_and_is_kept(
    score: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_decoder(tmp_path / "mbart", init_std=1.0)
    heard = ["mình sẽ phích cái bug này", "", "ok"]
    rows = [replace(row, transcript_hypothesis=text) for row, text in zip(ROWS, heard, strict=True)]
    silence = replace(ROWS[0], id="silence", transcript="", translation="", transcript_hypothesis="")
    rows.append(replace(silence, translation_hypothesis=""))
    cascade = CascadeOptions(str(model), LanguagePair(source="vi"), batch_size=2)
    metrics = score(rows=rows, cascade=cascade)
    row = metrics["baselines"]["ours_cascade_mbart"]
    assert row["wer"] == metrics["wer"]
    assert row["bleu"] != metrics["bleu"]
    written = read_predictions(tmp_path / "results" / "ours_cascade_mbart_predictions.csv")
    direct = TextTranslator(str(model), LanguagePair("vi_VN", "vi_VN"), torch.device("cpu"), torch.float32)
    assert [p.translation_hypothesis for p in written] == [*direct.translate(heard, 1), None]

    def refuse(*_: Any) -> list[str]:
        raise AssertionError("translated again")

    monkeypatch.setattr(TextTranslator, "translate", refuse)
    assert score(rows=rows, cascade=cascade)["baselines"] == metrics["baselines"]
    with pytest.raises(AssertionError, match="translated again"):
        score(rows=rows, cascade=replace(cascade, languages=LanguagePair(source="en")))


def test_without_transcripts_there_is_no_cascade(
    score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rows = [replace(row, transcript_hypothesis=None) for row in ROWS]
    cascade = CascadeOptions(str(tmp_path), LanguagePair(), batch_size=2)
    with pytest.raises(VietstError, match="ours only translates"):
        score(rows=rows, cascade=cascade)


# --- COMET --------------------------------------------------------------------------------------------------


def test_comet_scores_the_run_its_baselines_and_the_copy(
    score: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line ends inside texts make no further lines; an utterance without a reference has no score."""
    rows = [*ROWS[:2], replace(ROWS[2], translation_hypothesis="mình\nsẽ sửa"), replace(ROWS[0], id="u9")]
    rows[3] = replace(rows[3], translation="")
    only_heard = [replace(row, translation_hypothesis=None) for row in rows]
    theirs = [replace(row, translation_hypothesis=row.translation) for row in rows]
    baselines = (write_file(tmp_path, "asr", only_heard), write_file(tmp_path, "right", theirs))
    metrics = score(*baselines, rows=rows, comet=comet())
    of_each = [500 / 6, 500 / 6, 300 / 6]
    assert metrics["comet"] == pytest.approx(sum(of_each) / 3)
    assert metrics["baselines"]["copy"]["comet"] == pytest.approx(400 / 6)
    assert metrics["baselines"]["right"]["comet"] == 100
    assert "comet" not in metrics["baselines"]["asr"]
    assert "why_none" in metrics["intervals"]["comet"], "three videos"
    signature = metrics["metric_signatures"]["comet"]
    assert "model:wmt22-comet-da|" in signature
    assert "comet_stand_in.py" in signature
    assert f"COMET: {signature}" in capsys.readouterr().out
    of_utterances = scored_predictions(tmp_path / "results" / "ours_predictions.csv")
    assert [scores.get("comet") for _, scores in of_utterances] == [83.33, 83.33, 50.0, None]


def test_where_comet_fails_all_else_is_written(
    score: Callable[..., dict[str, Any]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(VietstError, match="exit code 1; what it said stands above"):
        score(comet=comet("broken"))
    printed = capfd.readouterr()
    assert "no such model" in printed.err
    assert "changed spans" in printed.out
    assert "comet" not in read_metrics(tmp_path / "results" / "ours_metrics.json")
    assert (tmp_path / "results" / "ours_report.html").is_file()


def test_where_comet_fails_the_curve_of_mixtures_is_written_too(tiny_corpus: Path, tmp_path: Path) -> None:
    base, tuned = write_model(tmp_path / "base"), write_model(tmp_path / "tuned")
    with pytest.raises(VietstError, match="exit code 1"):
        evaluate_with_interpolation(
            InterpolationOptions(str(base), []),
            model_dir=str(tuned),
            model_type=None,
            task=None,
            split=SplitOptions(tiny_corpus / "data" / "splits" / "test.csv", tiny_corpus, 8, None, 0),
            scoring=ScoringOptions(tmp_path / "results"),
            beside=BesideOptions(comet=comet("broken")),
        )
    metrics = read_metrics(tmp_path / "results" / "tuned_metrics.json")
    curve = read_metrics(tmp_path / "results" / "tuned_interpolation.json")
    assert [point["share_of_tuned"] for point in curve["points"]] == [0, 1]
    assert curve["points"][1]["test"]["wer"] == metrics["wer"]


def test_a_comet_program_that_is_not_there_is_refused_at_once(
    score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(VietstError, match="no such program"):
        score(comet=CometOptions("comet-score-of-nobody --quiet", "m"))
    assert not (tmp_path / "results").exists()


def test_a_program_that_writes_no_scores_is_told(score: Callable[..., dict[str, Any]]) -> None:
    program = f"{sys.executable} -c pass"
    with pytest.raises(VietstError, match="no scores in the file that --to_json names"):
        score(comet=CometOptions(program, "m"))
