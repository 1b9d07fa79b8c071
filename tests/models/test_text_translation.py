"""Text translation models: every text as if it were alone, and languages as each tokenizer is told them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
)

from tests.tiny_e2e import write_decoder
from tests.tiny_models import TEXTS
from vietst.errors import ModelError
from vietst.models.text_translation import LanguagePair, TextTranslator

SOURCES = [
    "mình sẽ fix cái bug này",
    "ok",
    "",
    "team chưa xong deadline hôm nay nên rất lo",
    "meeting thứ hai",
]
SIZES = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
    "init_std": 1.0,  # else untrained models write the same token again and again, whatever they read
}


def pieces(folder: Path) -> tuple[str, list[str]]:
    """A real SentencePiece model of a few texts, and its pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "texts.txt").write_text("\n".join(text for pair in TEXTS for text in pair), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts.txt"),
        model_prefix=str(folder / "pieces"),
        vocab_size=80,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(str(folder / "pieces.model"))
    return str(folder / "pieces.model"), [model.id_to_piece(i) for i in range(model.get_piece_size())]


def write_vocabulary(path: Path, tokens: Sequence[str]) -> str:
    ids = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    path.write_text(json.dumps(ids), encoding="utf-8")
    return str(path)


def write_mbart50(folder: Path) -> Path:
    return write_decoder(folder, max_position_embeddings=64, init_std=1.0, forced_eos_token_id=2)


def write_m2m100(folder: Path) -> Path:
    model_file, known = pieces(folder / "making")
    vocabulary = write_vocabulary(folder / "making" / "vocab.json", ["<s>", "<pad>", "</s>", "<unk>", *known])
    tokenizer = M2M100Tokenizer(vocabulary, model_file)
    size = max(tokenizer.lang_code_to_id.values()) + 9
    torch.manual_seed(5)
    M2M100ForConditionalGeneration(M2M100Config(vocab_size=size, **SIZES)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_nllb(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    learned = Tokenizer(models.BPE(unk_token="<unk>"))
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    learned.train_from_iterator(
        [text for pair in TEXTS for text in pair], trainers.BpeTrainer(vocab_size=90, special_tokens=special)
    )
    bpe = json.loads(learned.to_str())["model"]
    tokenizer = NllbTokenizer(bpe["vocab"], [tuple(merge) for merge in bpe["merges"]])
    torch.manual_seed(5)
    M2M100ForConditionalGeneration(M2M100Config(vocab_size=len(tokenizer), **SIZES)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_marian(folder: Path) -> Path:
    """As Helsinki-NLP's: one pair of languages, beams."""
    model_file, known = pieces(folder / "making")
    tokens = [token for token in known if token != "<s>"]
    vocabulary = write_vocabulary(folder / "making" / "vocab.json", [*tokens, "<pad>"])
    tokenizer = MarianTokenizer(model_file, model_file, vocabulary)
    pad, end = tokenizer.convert_tokens_to_ids(["<pad>", "</s>"])
    ids = {
        "pad_token_id": pad,
        "eos_token_id": end,
        "decoder_start_token_id": pad,
        "forced_eos_token_id": end,
    }
    torch.manual_seed(5)
    config = MarianConfig(vocab_size=len(tokens) + 1, num_beams=3, **ids, **SIZES)
    MarianMTModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {
    "mbart50": write_mbart50,
    "m2m100": write_m2m100,
    "nllb": write_nllb,
    "marian": write_marian,
}


def translator(folder: Path, **languages: str) -> TextTranslator:
    return TextTranslator(str(folder), LanguagePair(**languages), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_batch_gives_what_stock_transformers_gives_each_text_alone(kind: str, tmp_path: Path) -> None:
    ours = translator(WRITERS[kind](tmp_path))
    texts = ours.translate(SOURCES, batch_size=3)
    assert texts[2] == "", "nothing said, nothing translated"
    assert len(set(texts)) >= 4, "the model reads its input"
    for source, text in zip(SOURCES, texts, strict=True):
        if source:
            assert text == alone(ours.tokenizer, ours._model, kind, source)


def test_what_beams_find_for_a_text_does_not_depend_on_longer_ones_beside_it(tmp_path: Path) -> None:
    """Untrained models end nothing: every hypothesis ends at the cap of its text."""
    ours = translator(write_mbart50(tmp_path))
    ours._model.generation_config.num_beams = 5
    texts = [*SOURCES, "mình lo", "ok team", f"{SOURCES[3]} {SOURCES[4]} {SOURCES[0]}"]
    assert ours.translate(texts, len(texts)) == [ours.translate([text], 1)[0] for text in texts]


def alone(tokenizer: Any, model: Any, kind: str, source: str) -> str:
    """As the models' pages on the Hub say, English to Vietnamese, under the same cap."""
    if kind != "marian":
        tokenizer.src_lang = {"mbart50": "en_XX", "m2m100": "en", "nllb": "eng_Latn"}[kind]
    inputs = tokenizer(source, return_tensors="pt")
    forced = {}
    if kind == "mbart50":
        forced = {"forced_bos_token_id": tokenizer.lang_code_to_id["vi_VN"]}
    elif kind == "nllb":
        forced = {"forced_bos_token_id": tokenizer.convert_tokens_to_ids("vie_Latn")}
    elif kind == "m2m100":
        forced = {"forced_bos_token_id": tokenizer.get_lang_id("vi")}
    cap = min(2 * inputs["input_ids"].shape[1] + 20, 63)
    generated = model.generate(**inputs, **forced, max_new_tokens=cap)
    num_first = 1 + len(forced)
    return tokenizer.decode(generated[0, num_first:], skip_special_tokens=True).strip()


def test_what_the_transcripts_are_said_to_be_is_the_users_choice(tmp_path: Path) -> None:
    folder = write_mbart50(tmp_path)
    as_english, as_vietnamese, by_code = (
        translator(folder, source=source) for source in ("en", "vi", "vi_VN")
    )
    assert as_vietnamese.languages == LanguagePair("vi_VN", "vi_VN")
    assert as_vietnamese.translate(SOURCES, 2) == by_code.translate(SOURCES, 2)
    assert as_vietnamese.translate(SOURCES, 2) != as_english.translate(SOURCES, 2)


def test_a_prefix_is_read_with_every_text(tmp_path: Path) -> None:
    folder = write_marian(tmp_path)
    with_prefix = translator(folder, prefix="ok ").translate(["bug này"], 1)
    assert with_prefix == translator(folder).translate(["ok bug này"], 1)
    assert with_prefix != translator(folder).translate(["bug này"], 1)


def test_texts_longer_than_the_model_are_cut_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    long = "mình sẽ fix cái bug này " * 20
    assert translator(write_mbart50(tmp_path)).translate([long], 1) != [""]
    assert "reads 64 tokens at most, and this text fills or exceeds them: mình sẽ fix" in caplog.text


@pytest.mark.parametrize(
    ("kind", "languages", "found"),
    [
        ("mbart50", {"target": "vie_Latn"}, "'vie_Latn'; there are, for example"),
        ("mbart50", {"source": "fix"}, "'fix'; there are, for example"),  # a piece, no language
        ("marian", {"target": "vi"}, "the code vi, and a MarianTokenizer, which knows none"),
    ],
)
def test_languages_that_the_tokenizer_does_not_know_are_refused(
    kind: str, languages: dict[str, str], found: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as refused:
        translator(WRITERS[kind](tmp_path), **languages)
    assert found in refused.value.found


def test_code_of_a_repository_is_never_run(tmp_path: Path) -> None:
    folder = write_mbart50(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    classes = {"AutoConfig": "theirs.Config", "AutoModelForSeq2SeqLM": "theirs.Model"}
    config |= {"model_type": "theirs", "auto_map": classes}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    with pytest.raises(ModelError):
        translator(folder).translate(["ok"], 1)
    assert not (tmp_path / "ran").exists()
