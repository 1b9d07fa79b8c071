"""What CTC spells transcripts with: ids from 1 on for the units of the training transcripts, no others."""

import functools
import pickle

import pytest

from tests.tiny_e2e import mbart_tokenizer
from tests.tiny_models import TEXTS, whisper_processor
from vietst.data.ctc_units import CharacterTable, SubwordTable, describe_table
from vietst.models import e2e_inputs, whisper_inputs

TRANSCRIPTS = [transcript for transcript, _ in TEXTS[:3]]


@pytest.fixture(params=["whisper", "e2e"])
def tokenize(request):
    """`text_token_ids` of an architecture with a tokenizer of its kind."""
    if request.param == "whisper":
        return functools.partial(whisper_inputs.text_token_ids, whisper_processor().tokenizer)
    return functools.partial(e2e_inputs.text_token_ids, mbart_tokenizer())


def test_character_table_spells_lower_cased_text_and_skips_what_it_does_not_know():
    table = CharacterTable.of_texts(["Ấm a"])
    assert table.units == [" ", "a", "m", "ấ"]
    assert table.encode("ẤMz") == [4, 3]
    assert len(table) == 5


def test_subwords_are_the_pieces_that_the_decoder_learns_renumbered_without_gaps(tokenize):
    table = SubwordTable.of_texts(TRANSCRIPTS, tokenize)
    used = {token_id for text in TRANSCRIPTS for token_id in tokenize(text)}
    assert len(table) == 1 + len(used)
    encoded = [table.encode(text) for text in TRANSCRIPTS]
    assert {unit for units in encoded for unit in units} == set(range(1, len(table)))
    for text, units in zip(TRANSCRIPTS, encoded, strict=True):
        assert [table.units[unit - 1] for unit in units] == tokenize(text)
        assert len(units) < len(text)


def test_pieces_of_no_training_transcript_are_skipped(tokenize):
    table = SubwordTable.of_texts(TRANSCRIPTS[:1], tokenize)
    other = TEXTS[3][1]
    assert table.encode(other) == [
        table.units.index(token_id) + 1 for token_id in tokenize(other) if token_id in table.units
    ]
    assert len(table.encode(other)) < len(tokenize(other))


def test_tables_reach_the_processes_of_a_data_loader(tokenize):
    """Where processes are spawned, collators are pickled."""
    table = SubwordTable.of_texts(TRANSCRIPTS, tokenize)
    copied = pickle.loads(pickle.dumps(table))
    assert copied.encode(TRANSCRIPTS[1]) == table.encode(TRANSCRIPTS[1])


def test_the_description_tells_what_each_output_stands_for(tokenize):
    tables = [SubwordTable.of_texts(TRANSCRIPTS[:number], tokenize) for number in (1, 2, 3)]
    tables += [CharacterTable("abc"), CharacterTable("abd")]
    assert len({describe_table(table) for table in tables}) == len(tables)
    assert describe_table(CharacterTable("cab")) == describe_table(CharacterTable("abc"))
    assert describe_table(CharacterTable("cab")).startswith("3 characters (")
