"""The conventions report: what a text says about each convention, and where videos and sources disagree."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vietst.audit.conventions import count_conventions, write_conventions
from vietst.audit.writing import CONVENTIONS, occurrences
from vietst.data.tables import write_table

SAYS = [
    ("casing", "mình họp nhé", ["lower"]),
    ("casing", "Mình họp với Nam", ["sentence"]),
    ("casing", "mình ở Huế", ["inside"]),
    ("casing", "Mình Họp Với Nam", ["title"]),
    ("casing", "MÌNH HỌP NHÉ", ["upper"]),
    ("casing", "25%", []),
    ("punctuation", "mình họp nhé", ["none"]),
    ("punctuation", "Mình họp nhé!", ["end"]),
    ("punctuation", "rồi, mình họp 3,5 giờ", ["inside"]),
    ("punctuation", "Rồi, mình họp.", ["both"]),
    ("punctuation", "rồi nhé :)", ["none"]),
    ("numbers", "có 25 người và hai mươi người, 1.000 cái", ["figures", "figures", "words"]),
    ("numbers", "ba người năm nay, 5 cái", []),
    ("thousands", "1.000, 1,000, 1 000 và 15000", ["comma", "none", "point", "space"]),
    ("thousands", "năm 2024", []),
    ("thousands", "0.125 và 0,250", []),
    ("thousands", "50.000đ và 50000 đồng", ["none", "point"]),
    ("decimals", "0.125 và 0,250", ["comma", "point"]),
    ("decimals", "3,5 và 3.14 và ba phẩy năm", ["comma", "point", "words"]),
    ("percent", "50%, 50 %, năm phần trăm, ten percent", ["english", "sign", "spaced_sign", "vietnamese"]),
    ("dates", "ngày 20/11, 20-11-2024, 2024-11-20", ["dash", "iso", "slash"]),
    ("dates", "20 tháng 11 và hai mươi tháng mười một", ["figures", "words"]),
    ("dates", "trực 24/7, chỉ 1/2 và 2/3", []),
    ("times", "1/2 giờ, 15h30p", ["h"]),
    ("times", "9:30, 9h30, 9 giờ, chín giờ", ["colon", "figures", "h", "words"]),
    ("acronyms", "KPI của A.I. và K P I", ["capitals", "letters", "points"]),
    ("acronyms", "KPI TẤT CẢ", []),
    ("fillers", "ờ thì", ["vietnamese"]),
    ("fillers", "uhm thì", ["english"]),
    ("fillers", "thì thôi", ["none"]),
    ("i_or_y", "Kĩ thuật mỹ", ["i", "y"]),
    ("i_or_y", "mì và tí", []),
    ("tone_placement", "hoà bình hòa nhã quý giá", ["first_vowel", "second_vowel"]),
    ("english_words", "phây-búc, phây búc, Facebook", ["english", "hyphens", "spaces"]),
    ("english_words", "e-mail", ["hyphens"]),
    ("english_words", "Hà-Nội và phó-mát", []),
    ("emoji", "vui 👍", ["emoji"]),
    ("emoji", "vui :)", ["emoticon"]),
    ("emoji", "vui", ["none"]),
]


@pytest.mark.parametrize(("convention", "text", "ways"), SAYS)
def test_a_text_says(convention: str, text: str, ways: list[str]) -> None:
    assert sorted(way for name, way, _ in occurrences(text) if name == convention) == ways


@given(st.text(max_size=40))
def test_every_occurrence_is_a_way_of_a_convention(text: str) -> None:
    ways = {(convention.name, way) for convention in CONVENTIONS for way in convention.ways}
    assert {(convention, way) for convention, way, _ in occurrences(text)} <= ways


def row(video: int, transcript: str, source: str = "", translation: str = "") -> dict[str, str]:
    return {
        "audio_path": f"audio/v{video}/1.wav",
        "video_id": f"v{video}",
        "source": source,
        "transcript": transcript,
        "translation": translation,
    }


def entry_of(found: dict, name: str, column: str = "transcript") -> dict:
    return next(entry for entry in found[column]["conventions"] if entry["name"] == name)


def test_consistent_sources_that_differ_are_told_from_sources_that_mix_alike() -> None:
    ours = [row(video, "Có 25 người, hoà thuận.", "ours") for video in (0, 1, 2) for _ in range(6)]
    theirs = [row(3, "có hai mươi lăm người hòa thuận", "theirs") for _ in range(6)]
    found = count_conventions([*ours, *theirs])
    numbers = entry_of(found, "numbers")
    assert (numbers["usual"], numbers["num"]) == ("figures", 24)
    assert numbers["ways"]["words"]["example"] == "hai mươi lăm"
    assert numbers["by_source"]["explained"] == numbers["by_video_id"]["explained"] == pytest.approx(1)
    assert [other["group"] for other in numbers["by_source"]["otherwise"]] == ["theirs"]
    assert numbers["by_video_id"]["groups"]["v0"] == {"figures": 6}
    mixed = [row(video, text) for video in (0, 1) for text in ("hoà", "hòa") for _ in range(4)]
    placement = entry_of(count_conventions(mixed), "tone_placement")
    assert placement["by_video_id"]["explained"] == pytest.approx(0)
    assert placement["by_video_id"]["otherwise"] == []
    assert "by_source" not in placement, "the rows name none"


def test_transcripts_and_translations_are_told_apart() -> None:
    found = count_conventions([row(0, "mình họp", translation="Mình họp.")])
    assert entry_of(found, "casing")["usual"] == "lower"
    assert entry_of(found, "casing", "translation")["usual"] == "sentence"
    assert count_conventions([row(0, "mình họp")]).keys() == {"transcript"}


def test_a_few_occurrences_are_no_convention_of_a_video() -> None:
    rows = [row(0, "hòa") for _ in range(9)] + [row(1, "hoà") for _ in range(4)]
    by_video = entry_of(count_conventions(rows), "tone_placement")["by_video_id"]
    assert (by_video["num_groups"], by_video["otherwise"], by_video["explained"]) == (1, [], None)


def test_json_and_page_say_who_writes_otherwise(tmp_path: Path) -> None:
    rows = [row(0, "Có 25 <b>người</b>.", "youtube") for _ in range(9)]
    rows += [row(1, "có hai mươi lăm người", "podcast") for _ in range(6)]
    columns = ("audio_path", "video_id", "source", "transcript", "translation")
    write_table(tmp_path / "manifest.tsv", rows, columns)
    json_path, page_path = write_conventions(tmp_path / "manifest.tsv", tmp_path / "audit")
    found = json.loads(json_path.read_text(encoding="utf-8"))
    assert found["transcript"]["num_texts"] == 15
    page = page_path.read_text(encoding="utf-8")
    assert "Where the sources disagree" in page
    assert "podcast" in page
    assert "v1" in page
    assert "Có 25 &lt;b&gt;người&lt;/b&gt;." in page, "texts are no HTML"
    assert "numbers-4" in page, "what makes the ways equal"
