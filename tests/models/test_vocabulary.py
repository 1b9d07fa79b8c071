"""A trimmed vocabulary is the full one with fewer pieces: same pieces, same logits, nothing unknown."""

import json
import string
import unicodedata
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    MBart50Tokenizer,
    MBartConfig,
    MBartForCausalLM,
    MBartForConditionalGeneration,
)

from tests.tiny_models import whisper_processor
from vietst.data.sample_sentences import distinct_sentences
from vietst.errors import ModelError
from vietst.models.frequent_words import frequent_words
from vietst.models.published_sizes import TRIMMED_VOCABULARY
from vietst.models.vocabulary import needed_ids, trim_embeddings, trim_vocabulary

SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "vi_VN", "en_XX", "zh_CN", "<2transcribe>"]
VOWELS = "aàáảãạăằắẳẵặâầấẩẫậeèéẻẽẹêềếểễệiìíỉĩịoòóỏõọôồốổỗộơờớởỡợuùúủũụưừứửữựyỳýỷỹỵ"
LETTERS = "".join(letter + letter.upper() for letter in VOWELS + "bcdđfghjklmnpqrstvwxz")
CHARACTERS = LETTERS + string.digits + string.punctuation

SENTENCES = list(islice(distinct_sentences(3), 400))
TEXTS = [text for sentence in SENTENCES for text in (sentence.transcript, sentence.translation)]


def sentencepiece_tokenizer(
    folder: Path, texts: list[str], num_learned: int, invented: Sequence[tuple[str, float]] = ()
) -> MBart50Tokenizer:
    """A tokenizer from `sentencepiece.bpe.model`, as mBART-50's repository has it: Unigram and normalizer.

    `invented` are more pieces with their scores: little text gives only few.
    """
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    path = folder / "sentencepiece.bpe.model"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*texts, " ".join(LETTERS), " ".join(CHARACTERS)]),
        model_prefix=str(path.with_suffix("")),
        vocab_size=num_learned,
        model_type="unigram",
        character_coverage=1.0,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    learned = {piece.piece for piece in model.pieces}
    for piece, score in invented:
        if piece not in learned:
            model.pieces.add(piece=piece, score=score)
    path.write_bytes(model.SerializeToString())
    tokenizer = MBart50Tokenizer.from_pretrained(folder, src_lang="vi_VN", tgt_lang="vi_VN")
    tokenizer.add_special_tokens(
        {"extra_special_tokens": ["<2transcribe>", "<2translate>"]}, replace_extra_special_tokens=False
    )
    return tokenizer


WORDS = sorted({word for text in TEXTS for word in text.split()})
SUBWORDS = [
    (subword, -9.0 - 0.001 * number)
    for number, subword in enumerate(
        sorted({f"▁{word}"[start : start + 3] for word in WORDS for start in range(len(word))})
    )
]


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> MBart50Tokenizer:
    return sentencepiece_tokenizer(tmp_path_factory.mktemp("full"), TEXTS, 700, SUBWORDS)


@pytest.fixture(scope="module")
def trimmed(full):
    """Trimmed to a tenth of the texts."""
    return trim_vocabulary(full, TEXTS[:80])


def pieces(tokenizer, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False).input_ids)


def test_only_needed_pieces_are_left(full, trimmed):
    assert len(trimmed.tokenizer) == len(trimmed.kept_ids) < 0.9 * len(full)


def test_kept_ids_are_the_old_ids_of_the_same_pieces(full, trimmed):
    assert trimmed.kept_ids.dtype == np.int64
    assert (np.diff(trimmed.kept_ids) > 0).all()
    old = full.convert_ids_to_tokens(trimmed.kept_ids.tolist())
    assert old == trimmed.tokenizer.convert_ids_to_tokens(list(range(len(trimmed.tokenizer))))


def test_special_tokens_and_all_language_codes_stay_special(full, trimmed):
    assert set(full.all_special_tokens) == set(trimmed.tokenizer.all_special_tokens)
    unknown = trimmed.tokenizer.unk_token_id
    assert unknown not in trimmed.tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS[4:])
    assert trimmed.tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS[:4]) == [0, 1, 2, 3]


def test_prompt_codes_of_the_tokenizer_point_to_the_new_ids(full, trimmed):
    tokenizer = trimmed.tokenizer
    assert tokenizer.lang_code_to_id["vi_VN"] == tokenizer.convert_tokens_to_ids("vi_VN")
    assert tokenizer.lang_code_to_id["vi_VN"] != full.lang_code_to_id["vi_VN"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("ok").input_ids)[0] == "vi_VN"
    assert tokenizer(text_target="ok").input_ids == tokenizer("ok").input_ids


@pytest.mark.parametrize("text", TEXTS[:80:8])
def test_the_corpus_is_cut_into_the_same_pieces(full, trimmed, text):
    assert pieces(trimmed.tokenizer, text) == pieces(full, text)


@settings(max_examples=300)
@given(words=st.lists(st.sampled_from(WORDS), max_size=12))
def test_a_text_of_kept_pieces_is_cut_into_them(full, trimmed, words):
    text = " ".join(words)
    if set(full(text, add_special_tokens=False).input_ids) <= set(trimmed.kept_ids.tolist()):
        assert pieces(trimmed.tokenizer, text) == pieces(full, text)


@settings(max_examples=300)
@given(text=st.text(alphabet=CHARACTERS + "  ", max_size=60))
def test_any_vietnamese_or_english_text_is_spelled_without_unknown(full, trimmed, text):
    for form in ("NFC", "NFD"):
        spelled = unicodedata.normalize(form, text)
        new, old = trimmed.tokenizer(spelled).input_ids, full(spelled).input_ids
        assert trimmed.tokenizer.unk_token_id not in new
        assert trimmed.tokenizer.decode(new, skip_special_tokens=True) == full.decode(
            old, skip_special_tokens=True
        )


def test_characters_of_the_corpus_outside_the_latin_script_can_be_spelled(tmp_path):
    tokenizer = sentencepiece_tokenizer(tmp_path, [*TEXTS, "東 京 東 京 大 東", "大 京"], 700)
    with_kanji, without = trim_vocabulary(tokenizer, ["東京"]).tokenizer, trim_vocabulary(tokenizer, ["ok"])
    assert with_kanji.unk_token_id not in with_kanji("京東").input_ids
    assert without.tokenizer.unk_token_id in without.tokenizer("京東").input_ids


def test_a_character_that_exists_only_inside_pieces_keeps_them(full):
    description = json.loads(full.backend_tokenizer.to_str())
    vocabulary = [tuple(piece) for piece in description["model"]["vocab"] if piece[0] not in ("ẵ", "▁ẵ")]
    # MBart50Tokenizer takes a list with language codes as it is.
    tokenizer = MBart50Tokenizer(vocab=[*vocabulary, ("sẵn", -9.0), ("▁sẵng", -12.0)])
    trimmed = trim_vocabulary(tokenizer, ["ok"]).tokenizer
    for text in ("sẵn sàng", "sẵng", "không sẵn"):
        assert trimmed.unk_token_id not in trimmed(text).input_ids


def test_an_unknown_character_costs_as_much_as_before():
    """The least likely piece sets that price; were it dropped, "as <unk> nb" would become the better cut."""
    scores = {"▁": -1.0, "a": -20.0, "b": -20.0, "as": -1.0, "nb": -1.0, "sẵn": -9.0, "京": -60.0}
    full = MBart50Tokenizer(vocab=[("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *scores.items()])
    assert pieces(full, "asẵnb") == ["▁", "a", "sẵn", "b"]
    assert pieces(trim_vocabulary(full, ["asẵnb", "as", "nb"]).tokenizer, "asẵnb") == pieces(full, "asẵnb")


def test_extra_texts_fill_the_vocabulary_up_in_their_order(full):
    def kept(extra_texts, fill_up_to):
        return set(needed_ids(full, TEXTS[:20], extra_texts, fill_up_to).tolist())

    base = kept((), 0)
    new = {text: set(full(text, add_special_tokens=False).input_ids) - base for text in TEXTS}
    first = next(text for text in TEXTS if new[text])
    second = next(text for text in TEXTS if new[text] and new[text].isdisjoint(new[first]))
    for one, other in ((first, second), (second, first)):
        assert kept([one, other], len(base) + len(new[one])) == base | new[one]
    assert kept([first, second], 10**6) == base | new[first] | new[second]
    assert kept([first, second], 10) == base, "the corpus is never cut"


@pytest.mark.parametrize("tokenizer_class", [MBart50Tokenizer, AutoTokenizer])
def test_saved_and_loaded_it_is_the_same(trimmed, tmp_path, tokenizer_class):
    trimmed.tokenizer.save_pretrained(tmp_path)
    loaded = tokenizer_class.from_pretrained(tmp_path)
    assert type(loaded) is MBart50Tokenizer
    assert loaded.backend_tokenizer.to_str() == trimmed.tokenizer.backend_tokenizer.to_str()
    assert loaded.all_special_ids == trimmed.tokenizer.all_special_ids
    assert [loaded(text).input_ids for text in TEXTS] == [trimmed.tokenizer(text).input_ids for text in TEXTS]


def test_the_given_tokenizer_is_left_as_it_was(full):
    before = full.backend_tokenizer.to_str()
    trim_vocabulary(full, ["ok"])
    assert full.backend_tokenizer.to_str() == before


def test_trimming_again_to_the_same_texts_changes_nothing(trimmed):
    again = trim_vocabulary(trimmed.tokenizer, TEXTS[:80])
    assert again.kept_ids.tolist() == list(range(len(trimmed.tokenizer)))
    assert again.tokenizer.backend_tokenizer.to_str() == trimmed.tokenizer.backend_tokenizer.to_str()


def test_another_kind_of_tokenizer_is_refused_in_words():
    with pytest.raises(ModelError, match="trim_vocabulary"):
        trim_vocabulary(whisper_processor().tokenizer, ["ok"])


# --- embeddings --------------------------------------------------------------------------------------


def mbart_config(vocab_size: int, **others: object) -> MBartConfig:
    return MBartConfig(
        vocab_size=vocab_size,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        scale_embedding=True,
        **others,
    )


def test_logits_of_kept_pieces_are_those_of_the_full_model(full, trimmed):
    torch.manual_seed(0)
    decoder = MBartForCausalLM(mbart_config(len(full), is_decoder=True, add_cross_attention=True)).eval()
    states = torch.randn(2, 5, 16)
    new_ids = trimmed.tokenizer(TEXTS[:2], return_tensors="pt", padding=True).input_ids
    kept = torch.from_numpy(trimmed.kept_ids)
    with torch.no_grad():
        expected = decoder(input_ids=kept[new_ids], encoder_hidden_states=states).logits[..., kept]
        trim_embeddings(decoder, trimmed.kept_ids)
        found = decoder(input_ids=new_ids, encoder_hidden_states=states).logits
    assert torch.equal(found, expected)
    assert decoder.config.vocab_size == len(trimmed.tokenizer)
    assert decoder.lm_head.weight is decoder.get_input_embeddings().weight


def test_a_whole_translation_model_is_trimmed_with_its_special_token_ids(full, trimmed, tmp_path):
    torch.manual_seed(0)
    old_code, new_code = (t.convert_tokens_to_ids("vi_VN") for t in (full, trimmed.tokenizer))
    model = MBartForConditionalGeneration(mbart_config(len(full), decoder_start_token_id=old_code)).eval()
    model.generation_config.forced_bos_token_id = old_code
    new_ids = trimmed.tokenizer(TEXTS[:2], return_tensors="pt", padding=True).input_ids
    kept = torch.from_numpy(trimmed.kept_ids)
    with torch.no_grad():
        expected = model(input_ids=kept[new_ids], decoder_input_ids=kept[new_ids]).logits[..., kept]
        trim_embeddings(model, trimmed.kept_ids)
        model.save_pretrained(tmp_path)
        loaded = MBartForConditionalGeneration.from_pretrained(tmp_path).eval()
        found = loaded(input_ids=new_ids, decoder_input_ids=new_ids).logits
    assert torch.equal(found, expected)
    assert loaded.config.decoder_start_token_id == new_code
    assert loaded.generation_config.forced_bos_token_id == new_code
    assert loaded.config.eos_token_id == trimmed.tokenizer.eos_token_id


def test_frozen_embeddings_stay_frozen(full, trimmed):
    decoder = MBartForCausalLM(mbart_config(len(full), is_decoder=True))
    decoder.requires_grad_(False)
    trim_embeddings(decoder, trimmed.kept_ids)
    assert not any(parameter.requires_grad for parameter in decoder.parameters())


def test_embeddings_of_another_tokenizer_are_refused_in_words(trimmed):
    with pytest.raises(ModelError, match="rows"):
        trim_embeddings(MBartForCausalLM(mbart_config(60)), trimmed.kept_ids)


# --- real texts --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def news(shared_data: Path) -> list[tuple[str, str]]:
    """1,000 (English, Vietnamese) lines."""
    path = shared_data / "en_vi_text" / "ntrex128_en_vi_first1000.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [tuple(line.split("\t")[1:]) for line in lines]


@pytest.fixture(scope="module")
def technical(shared_data: Path) -> list[str]:
    """Vietnamese sentences with English words."""
    path = shared_data / "cs_text" / "code_switched_vi_en.jsonl"
    return [json.loads(line)["transcript"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_thousand_vietnamese_lines_round_trip_through_a_vocabulary_trimmed_to_other_texts(
    news, technical, tmp_path
):
    vietnamese = [vi for _, vi in news]
    full = sentencepiece_tokenizer(tmp_path, [*vietnamese, *technical, *(en for en, _ in news)], 6000)
    trimmed = trim_vocabulary(full, technical[:300])
    assert len(trimmed.tokenizer) < len(full) / 3
    assert len(vietnamese) == 1000
    for text in vietnamese:
        new, old = trimmed.tokenizer(text).input_ids, full(text).input_ids
        assert trimmed.tokenizer.unk_token_id not in new
        assert trimmed.tokenizer.decode(new) == full.decode(old)


def test_frequent_words_are_of_both_languages_the_most_frequent_first_and_with_capitals():
    words = frequent_words()
    assert {"the", "The", "là", "Là"} <= set(words[:60])
    assert {"deadline", "được", "Được"} <= set(words)
    assert words[1::2] == [word.capitalize() for word in words[::2]]
    assert not [word for word in words if not any(character.isalpha() for character in word)]


@pytest.fixture(scope="module")
def quarter_of_a_million(news, technical, tmp_path_factory) -> MBart50Tokenizer:
    """As many pieces as mBART-50 has: learned ones, every frequent word, and words of no language."""
    folder = tmp_path_factory.mktemp("quarter")
    texts = [text for pair in news for text in pair] + technical
    words = [(f"▁{word}", -10.0) for word in dict.fromkeys(frequent_words())]
    num_others = 250_001 - sentencepiece_tokenizer(folder, texts, 6000, words).lang_code_to_id["ar_AR"]
    others = [(f"▁zz{number}", -20.0) for number in range(num_others)]
    return sentencepiece_tokenizer(folder, texts, 6000, [*words, *others])


def test_a_quarter_of_a_million_pieces_become_some_thousand(news, technical, quarter_of_a_million):
    full = quarter_of_a_million
    texts = [text for pair in news for text in pair] + technical
    assert len(full) == 250_056
    assert full.convert_tokens_to_ids("vi_VN") == 250_024
    trimmed = trim_vocabulary(full, texts)
    assert 3000 < len(trimmed.tokenizer) < 15_000
    assert all(pieces(trimmed.tokenizer, text) == pieces(full, text) for text in texts[::10])


def test_everyday_words_fill_it_up_and_a_thousand_lines_of_news_round_trip(
    news, technical, quarter_of_a_million, tmp_path
):
    full, vietnamese = quarter_of_a_million, [vi for _, vi in news]
    filled = trim_vocabulary(full, technical, extra_texts=frequent_words(), fill_up_to=TRIMMED_VOCABULARY)
    assert len(filled.tokenizer) == TRIMMED_VOCABULARY
    filled.tokenizer.save_pretrained(tmp_path)
    loaded = MBart50Tokenizer.from_pretrained(tmp_path)
    for text in vietnamese:
        new, old = loaded(text).input_ids, full(text).input_ids
        assert loaded.unk_token_id not in new
        assert loaded.decode(new) == full.decode(old)
    bare = trim_vocabulary(full, technical).tokenizer
    lengths = {
        name: sum(map(len, tokenizer(vietnamese).input_ids))
        for name, tokenizer in (("full", full), ("filled", loaded), ("bare", bare))
    }
    assert lengths["filled"] < lengths["full"] + 0.5 * (lengths["bare"] - lengths["full"]), lengths
