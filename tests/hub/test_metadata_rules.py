"""Every rule for a model card: a card that keeps it, and one that breaks it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCardData
from huggingface_hub.repocard_data import EvalResult

from vietst.errors import HubError
from vietst.hub.metadata_rules import MAX_BYTES, check_card, is_hub_id, is_language, require_valid_card
from vietst.hub.private_text import is_plain, local_places, tokens


def good() -> dict[str, Any]:
    score = EvalResult(
        task_type="automatic-speech-recognition",
        dataset_type="owner/corpus",
        dataset_name="Corpus",
        metric_type="wer",
        metric_value=12.3,
        metric_args={"confidence_interval": {"low": 11.0, "high": 13.0}},
    )
    metadata: dict[str, Any] = ModelCardData(
        language=["vi", "en"],
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="automatic-speech-recognition",
        base_model=["openai/whisper-small"],
        datasets=["owner/corpus", "imdb"],
        tags=["code-switching"],
        metrics=["wer"],
        model_name="model",
        eval_results=[score],
    ).to_dict()
    return metadata


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    path = tmp_path / "README.md"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return check_card(path)


def card(metadata: dict[str, Any], body: str = "# Model\n") -> str:
    return f"---\n{yaml.safe_dump(metadata)}---\n{body}"


def test_a_card_that_keeps_all_rules(tmp_path: Path) -> None:
    assert problems(tmp_path, card(good())) == []
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "loss.png").touch()
    body = "# Model\n![loss](charts/loss.png) [Hub](https://huggingface.co/a/b) [below](#use) 1 / 2 and/or\n"
    assert problems(tmp_path, card(good(), body)) == []
    assert (
        problems(
            tmp_path, card(good() | {"license": "other", "license_name": "x", "license_link": "LICENSE"})
        )
        == []
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"language": "vn"}, "language vn"),
        ({"language": ["vi", "Vietnamese"]}, "language Vietnamese"),
        ({"license": "apache2"}, "license apache2"),
        ({"license": "other"}, "needs license_name"),
        ({"license": ["mit"]}, "license: a text is expected"),
        ({"pipeline_tag": "speech-translation"}, "pipeline_tag speech-translation"),
        ({"library_name": "Transformers"}, "library_name Transformers"),
        ({"metrics": ["WER"]}, "metrics WER"),
        ({"base_model": "outputs/../nano"}, "base_model outputs/../nano"),
        ({"base_model": ["whisper-small"]}, "base_model whisper-small"),
        ({"base_model": ["a/b/c"]}, "base_model a/b/c"),
        ({"datasets": ["hf://datasets/a/b"]}, "datasets hf://datasets/a/b"),
        ({"tags": ["", "x"]}, "tags: an empty one"),
        ({"tags": [1]}, "tags: a text is expected, not 1"),
        ({"model-index": []}, "a list of one model"),
        ({"model-index": [{"name": "x", "results": []}]}, "no results"),
        ({"model-index": [{"results": [{}]}]}, "no name"),
    ],
)
def test_a_value_that_the_hub_does_not_take(tmp_path: Path, change: dict[str, Any], found: str) -> None:
    assert any(found in problem for problem in problems(tmp_path, card(good() | change)))


@pytest.mark.parametrize(
    ("part", "change", "found"),
    [
        ("task", {"type": "speech-translation"}, "task.type"),
        ("dataset", {"type": None}, "dataset.type"),
        ("dataset", {"name": ""}, "dataset.name"),
        ("metrics", {"type": "word error rate"}, "without a type"),
        ("metrics", {"value": "12.3 ± 1"}, "no number"),
        ("metrics", {"args": [1]}, "args are no mapping"),
        ("metrics", {"verified": True}, "verified"),
        ("metrics", {"unit": "percent"}, "loses a part"),
        ("dataset", {"size": 3}, "loses a part"),
    ],
)
def test_results_of_another_shape(tmp_path: Path, part: str, change: dict[str, Any], found: str) -> None:
    metadata = good()
    place = metadata["model-index"][0]["results"][0][part]
    (place[0] if part == "metrics" else place).update(change)
    assert any(found in problem for problem in problems(tmp_path, card(metadata)))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# Model\n", "no metadata"),
        ("---\nlicense: mit\n", "no metadata"),
        ("---\nlicense: [mit\n---\n", "no YAML"),
        ("---\nlicense: mit\nlicense: apache-2.0\n---\n", "license stands there twice"),
        ("---\n- license\n---\n", "metadata that are list"),
        ("---\nlicense: !!python/object/apply:os.getcwd []\n---\n", "no YAML"),
        ("---\ndate: 2026-11-25\n---\n", "date: 2026-11-25 is a date"),
        ("---\nscore: .nan\n---\n", "no number for JSON"),
        ("---\n1: one\n---\n", "no key for JSON"),
        ("---\nlicense: mit\n---\n![loss](charts/loss.png)\n", "charts/loss.png, which is not there"),
        ("---\nlicense: mit\n---\n[x](../README.md)\n", "../README.md"),
        ("---\nlicense: mit\n---\nsee /home/lan/model\n", "a local place: /home/lan/model"),
        ("---\nlicense: mit\n---\nhf_abcdefghijklmnopqrstuvwxyz\n", "a token: hf_abc…"),
        (b"---\nlicense: mit\n---\n\xff\n", "not UTF-8"),
        (b"-" * (MAX_BYTES + 1), "10.0 MB"),
    ],
)
def test_a_text_that_is_no_card(tmp_path: Path, text: str | bytes, found: str) -> None:
    assert any(found in problem for problem in problems(tmp_path, text))


def test_all_problems_are_raised_at_once(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(card(good() | {"license": "x", "language": "vn"}), encoding="utf-8")
    with pytest.raises(HubError, match=r"language vn.*license x"):
        require_valid_card(path)


def test_languages() -> None:
    assert all(map(is_language, ("vi", "vie", "en", "code", "multilingual")))
    assert not any(map(is_language, ("vn", "VI", "vi-VN", "qaa", "xx", "", "vietnamese")))


def test_hub_ids() -> None:
    assert all(map(is_hub_id, ("openai/whisper-large-v3", "a/b.c_d")))
    assert not any(
        map(is_hub_id, ("gpt2", "a/b/c", "/a/b", "./b", "a/b.git", "C:\\a", "a/b c", "..", "a/-b"))
    )


PLACES = (
    *("/home/lan/model", "(/tmp/x)", "`/a`", '"/data/khách hàng"', "a: /srv/x", "x=/opt/y"),
    *(
        "C:\\Users\\lan",
        "d:/data",
        "\\\\server\\share\\x",
        "file:///x",
        "~/x",
        "~lan/x",
        "$HOME/x",
        "%TEMP%\\x",
    ),
)
NO_PLACES = (
    *("https://huggingface.co/a/b", "1 / 2", "and/or", "results/metrics.json", "km/h", "3/4", "w/o", "a ~ b"),
    *("<|vi|> <|translate|>", "</s>", "jiwer:4.0.0|normalizer:vietst-1", "`speech({})`", "[a](charts/b.png)"),
)


@pytest.mark.parametrize("text", PLACES)
def test_local_places_are_found(text: str) -> None:
    assert local_places(text)
    assert local_places(f"before {text} after")
    assert not is_plain(text)


@pytest.mark.parametrize("text", NO_PLACES)
def test_what_only_looks_like_a_local_place(text: str) -> None:
    assert not local_places(f"before {text} after")


def test_tokens_are_not_told() -> None:
    assert tokens("x hf_AbCdEfGhIjKlMnOpQrStUvWxYz y") == ["hf_AbC…"]
    assert tokens("hf_hub_download hf_xet") == []


@pytest.mark.parametrize(
    "text", ["NVIDIA H100 80GB HBM3", "Intel(R) Xeon(R) CPU @ 2.20GHz", "2.13.0+cpu", "> −20", "má, mà"]
)
def test_plain_words(text: str) -> None:
    assert is_plain(text)


@pytest.mark.parametrize(
    "text", ["a/b", "a\\b", "<b>", "a\nb", "`a`", "", "x" * 201, "[a](b)", "hf_" + "a" * 30]
)
def test_words_that_are_not_plain(text: str) -> None:
    assert not is_plain(text)
