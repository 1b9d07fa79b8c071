"""A model is taught one style of writing: labels, dev and test agree on it; features are not built again."""

import json
import shutil
import string
from pathlib import Path

import pytest

from tests.tiny_runs import tiny_run_overrides


@pytest.fixture(scope="module")
def cased_corpus(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny corpus with capitals and full stops, and its nano features."""
    from vietst.data.feature_cache import build_feature_cache
    from vietst.data.features import LOG_MEL_80_NANO
    from vietst.data.splits import split_manifest
    from vietst.data.tables import read_table, write_table

    root = tmp_path_factory.mktemp("cased")
    export, data = root / "data" / "export", root / "data"
    shutil.copytree(tiny_corpus / "data" / "export", export)
    rows = read_table(export / "manifest_clean.tsv", ("transcript",), if_missing="")
    columns = list(rows[0])
    for row in rows:
        row |= {name: f"{row[name].capitalize()}, Nam!" for name in ("transcript", "translation")}
    write_table(export / "manifest_clean.tsv", rows, columns)
    split_manifest(export / "manifest_clean.tsv", data / "splits", ratios=(0.6, 0.2, 0.2), seed=42)
    build_feature_cache(data / "splits", data / "features", LOG_MEL_80_NANO, audio_root=root, num_proc=1)
    return root


def prepared(corpus: Path, folder: Path, style: str):
    from vietst.config import load_config
    from vietst.training.preparation import prepare

    cased = f"{{path: {(corpus / 'data/splits/test.csv').as_posix()}, audio_root: {corpus.as_posix()}}}"
    watched = f"evaluation.extra_sets={{cased: {cased}}}"
    overrides = [*tiny_run_overrides(corpus, folder), f"text.style={style}", watched]
    return prepare(load_config("nano_whisper", overrides).config)


def test_labels_dev_references_and_tokenizer_are_in_the_style_over_the_same_features(
    cased_corpus: Path, tmp_path: Path
) -> None:
    before = sorted(path.stat().st_mtime_ns for path in (cased_corpus / "data" / "features").rglob("*"))
    as_is, plain = (prepared(cased_corpus, tmp_path / style, style) for style in ("as_is", "lower_nopunct"))
    assert sorted(path.stat().st_mtime_ns for path in (cased_corpus / "data/features").rglob("*")) == before
    for dataset in ("train", "dev"):
        for original, row in zip(getattr(as_is, dataset), getattr(plain, dataset), strict=True):
            assert original["transcript"].endswith(", Nam!")
            for name in ("transcript", "translation"):
                assert row[name] == original[name].lower().replace(", nam!", " nam")
            assert row.keys() == original.keys()
            assert row["features"] == original["features"]
    watched = [
        [row["transcript"] for row in preparation.extra_sets[0].rows] for preparation in (as_is, plain)
    ]
    assert watched[1] == [text.lower().replace(", nam!", " nam") for text in watched[0]]
    collator = plain.architecture.collator(
        plain.processor, plain.input_kind, plain.tasks, "vi", plain.ctc_table
    )
    rows = [plain.train[index] for index in range(4)]
    labels = collator(rows)["labels"][:4].tolist()
    tokenizer = plain.processor.tokenizer
    decoded = [tokenizer.decode([id for id in row if id != -100], skip_special_tokens=True) for row in labels]
    assert [text.strip() for text in decoded] == [row["transcript"] for row in rows]
    assert "N" in letters_of_pieces(as_is)
    assert not letters_of_pieces(plain) & set(string.ascii_uppercase), "it was trained on the styled texts"


def letters_of_pieces(preparation) -> set[str]:
    """Of the pieces that were learned, without the 256 bytes and the special tokens."""
    vocabulary = preparation.processor.tokenizer.get_vocab()
    return {
        letter for piece in vocabulary if len(piece) > 1 and not piece.startswith("<|") for letter in piece
    }


def test_an_evaluation_knows_how_the_model_was_taught_to_write(cased_corpus: Path, tmp_path: Path) -> None:
    from vietst.config import load_config
    from vietst.evaluation.model_predictions import decode_split, plan_decoding
    from vietst.evaluation.scoring import SplitOptions
    from vietst.training.runner import run_training

    overrides = [*tiny_run_overrides(cased_corpus, tmp_path), "text.style=lower_nopunct"]
    run_dir = run_training(load_config("nano_whisper", overrides))
    assert json.loads((run_dir / "config.json").read_text())["vietst"]["text_style"] == "lower_nopunct"
    split = SplitOptions(cased_corpus / "data/splits/test.csv", cased_corpus, 16, None, 0)
    made = decode_split(plan_decoding(str(run_dir), split))
    assert {p.text_style for p in made.predictions} == {"lower_nopunct"}
    assert made.facts["decoding"]["text_style"] == "lower_nopunct"
    assert all(p.transcript.endswith(", Nam!") for p in made.predictions), (
        "references stay what the split says"
    )
