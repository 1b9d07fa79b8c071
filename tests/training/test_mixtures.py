"""Real runs mixed with the models that they began from: the ends of the curve are the scores of these two."""

import json
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from tests.tiny_runs import history
from vietst.errors import VietstError
from vietst.evaluation.beside import BesideOptions
from vietst.evaluation.charts import export_charts
from vietst.evaluation.evaluate_model import evaluate_model
from vietst.evaluation.interpolation import InterpolationOptions, evaluate_with_interpolation
from vietst.evaluation.interpolation_curve import curve_of_run
from vietst.evaluation.scoring import ScoringOptions, SplitOptions
from vietst.training.runner import run_training

SCORES = ("wer", "cer", "bleu", "chrf")


def options(corpus: Path, folder: Path) -> dict[str, Any]:
    """What evaluations of the tiny corpus' test split have in common; results go below `folder`."""
    return {
        "model_type": None,
        "task": None,
        "split": SplitOptions(corpus / "data" / "splits" / "test.csv", corpus, 8, None, 0),
        "scoring": ScoringOptions(folder / "results"),
        "beside": BesideOptions(),
    }


def scores_of(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: metrics[name] for name in SCORES}


@pytest.mark.parametrize("kind", ["whisper", "e2e"])
def test_the_curve_begins_at_the_base_and_ends_at_the_run(base, watched, tiny_corpus, tmp_path, kind):
    base_dir = str(base(kind)[0])
    run_dir = run_training(watched(kind, "training.learning_rate=1e-2", "training.max_steps=6"))
    of_test = options(tiny_corpus, tmp_path)
    mixed = tmp_path / "mixed"
    curve = evaluate_with_interpolation(
        InterpolationOptions(base_dir, [0.25], 0.5, mixed), model_dir=str(run_dir), **of_test
    )
    assert [point["share_of_tuned"] for point in curve["points"]] == [0, 0.25, 0.5, 1]
    first, _, half, last = curve["points"]
    metrics_json = tmp_path / "results" / "run_metrics.json"
    metrics = json.loads(metrics_json.read_text(encoding="utf-8"))
    assert last["test"] == scores_of(metrics)
    assert last["extra_sets"]["own_words"]["wer"] == history(run_dir, "eval_own_words_wer")[-1]
    assert first["extra_sets"]["own_words"]["wer"] == 0
    for model_dir, point in ((base_dir, first), (str(mixed), half)):
        of_test["scoring"] = ScoringOptions(tmp_path / "elsewhere")
        assert point["test"] == scores_of(evaluate_model(model_dir=model_dir, **of_test))
    assert matplotlib.image.imread(tmp_path / "results" / "run_interpolation.png").shape[1] == 1200
    report = (tmp_path / "results" / "run_report.html").read_text(encoding="utf-8")
    assert '<section id="mixtures">' in report
    charts = export_charts(tmp_path, tmp_path / "results", tmp_path / "charts")
    assert {"interpolation_run.png", "extra_sets.png"} <= {path.name for path in charts.written}
    metrics_json.write_text(json.dumps({**metrics, "wer": 1.5}), encoding="utf-8")
    assert curve_of_run(metrics_json) is None, "the curve of other weights is not that of this run"


def test_a_set_that_is_gone_and_a_place_that_is_taken_are_said_before_anything_is_decoded(
    base, watched, tiny_corpus, tmp_path
):
    base_dir = str(base("whisper")[0])
    run_dir = run_training(watched("whisper", "training.max_steps=1"))
    resolved = run_dir / "resolved_config.yaml"
    text = resolved.read_text(encoding="utf-8")
    resolved.write_text(text.replace("written.tsv", "gone.tsv"), encoding="utf-8")
    with pytest.raises(VietstError, match=r"correct evaluation\.extra_sets\.own_words\.path"):
        evaluate_with_interpolation(
            InterpolationOptions(base_dir, []), model_dir=str(run_dir), **options(tiny_corpus, tmp_path)
        )
    with pytest.raises(VietstError, match="name another folder"):
        evaluate_with_interpolation(
            InterpolationOptions(base_dir, [], 0.5, run_dir),
            model_dir=base_dir,
            **options(tiny_corpus, tmp_path),
        )
    assert not (tmp_path / "results").exists()
