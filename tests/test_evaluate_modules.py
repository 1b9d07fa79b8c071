"""The modules for `evaluate` load by their path, without a network, and say what our own functions say."""

from pathlib import Path

import pytest

from vietst.evaluation.code_switching import count_errors, error_rates
from vietst.evaluation.metrics import character_error_rate, word_error_rate
from vietst.text import NORMALIZER_ID, normalize_for_scoring

REFERENCES = ["Mình họp với team nhé.", "Cái deadline hoà là thứ Sáu!"]
PREDICTIONS = ["mình họp với tim nhé", "cái deadline hòa là thứ sáu"]


@pytest.fixture
def modules_dir(repo_root: Path) -> Path:
    return repo_root / "vietst" / "evaluate_modules"


@pytest.mark.parametrize(
    ("name", "key", "score"),
    [("vietnamese_wer", "wer", word_error_rate), ("vietnamese_cer", "cer", character_error_rate)],
)
def test_modules_load_by_path_and_agree_with_our_functions(modules_dir: Path, name, key, score) -> None:
    import evaluate

    module = evaluate.load(str(modules_dir / name))
    computed = module.compute(predictions=PREDICTIONS, references=REFERENCES)
    normalized = [[normalize_for_scoring(text) for text in texts] for texts in (REFERENCES, PREDICTIONS)]
    assert computed == {key: score(*normalized), "normalizer": NORMALIZER_ID}
    assert 0 < computed[key] < 100


def test_code_switching_errors_are_those_of_our_functions_and_gather_batches(modules_dir: Path) -> None:
    import evaluate

    module = evaluate.load(str(modules_dir / "code_switching_errors"))
    computed = module.compute(predictions=PREDICTIONS, references=REFERENCES)
    expected = error_rates(count_errors(REFERENCES, PREDICTIONS))
    assert computed == {**expected, "normalizer": NORMALIZER_ID}
    assert computed["pier"] == 50, "of team and deadline one is wrong"
    assert computed["wer_vietnamese"] == 0
    assert computed["words"]["en"]["error_kinds"] == {"transliterated": 1}
    for prediction, reference in zip(PREDICTIONS, REFERENCES, strict=True):
        module.add(prediction=prediction, reference=reference)
    assert module.compute() == computed


def test_modules_gather_batches_and_combine(modules_dir: Path) -> None:
    import evaluate

    combined = evaluate.combine([str(modules_dir / "vietnamese_wer"), str(modules_dir / "vietnamese_cer")])
    for prediction, reference in zip(PREDICTIONS, REFERENCES, strict=True):
        combined.add(prediction=prediction, reference=reference)
    one_by_one = combined.compute()
    at_once = combined.compute(predictions=PREDICTIONS, references=REFERENCES)
    assert one_by_one == at_once
    assert {"wer", "cer"} <= one_by_one.keys()
