"""The audit's page: true to its files, safe whatever these hold, and usable in a real browser."""

import base64
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.audit.made_up_audit import made_up_rows, write_made_up_audit
from tests.browser import CHROMIUM, LOW_CONTRAST
from tests.html_page import Page
from vietst.audit.audit_page import write_audit_page
from vietst.audit.clauses import NUM_WORST
from vietst.audit.drop_expression import DropExpression
from vietst.errors import ManifestError

NUM_ROWS = 600
HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)> \"quoted\" & 'more' <!--"
MISSING = [*([] if find_spec("playwright") else ["playwright"]), *([] if CHROMIUM else ["a Chromium"])]
needs_browser = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)} (extra dev)")

Rows = list[tuple[dict[str, str], dict[str, str]]]
"""Of `signals.tsv` and of the manifest."""


def hostile_rows(num_rows: int) -> Rows:
    rows = list(made_up_rows(num_rows))
    for number, (cells, texts) in enumerate(rows):
        texts["id"] = cells["id"] = f"{number} {HOSTILE}"
        texts["transcript"] = f"{HOSTILE} {texts['transcript']}"
        texts["video_id"] += HOSTILE
        if cells["duplicate_of"]:
            cells["duplicate_of"] = f"{cells['duplicate_of'][1:]} {HOSTILE}"
    return rows


def most_silent_first(rows: Rows) -> list[dict[str, str]]:
    """Of the manifest."""
    ranked = sorted(rows, key=lambda row: (-float(row[0]["silence"]), -float(row[0]["duration"])))
    return [texts for _, texts in ranked]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return hostile_rows(NUM_ROWS)


@pytest.fixture(scope="module")
def page(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside its files, in another folder than the audio; one clip is missing."""
    root = tmp_path_factory.mktemp("root")
    manifest = write_made_up_audit(root / "data" / "the audit", rows)
    (root / "audio").mkdir()
    sound = np.sin(np.arange(4000) / 9).astype(np.float32)
    for _, texts in rows:
        soundfile.write(root / texts["audio_path"], sound, 8000)
    (root / most_silent_first(rows)[0]["audio_path"]).unlink()
    return write_audit_page(manifest.parent, manifest, root)


def data_of(page: Path) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"))
    assert found
    return json.loads(found[1])


# --- what is written --------------------------------------------------------------------------------------


def test_texts_of_the_files_stay_texts(page: Path) -> None:
    read = Page(page)
    assert [script.get("type") for script in read.all("script")] == ["application/json", None]
    assert read.all("img") == []
    ids = [row["id"] for row in data_of(page)["rows"]]
    assert len(ids) > NUM_WORST
    assert all(shown.endswith(HOSTILE) for shown in ids)
    (policy,) = (meta["content"] for meta in read.all("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in str(policy)
    assert "script-src 'sha256-" in str(policy)


def test_rows_show_where_their_edges_are_wrong_and_the_row_that_goes_with_them(
    page: Path, rows: Rows
) -> None:
    shown = {row["number"]: row for row in data_of(page)["rows"]}
    repeated = [row for row in shown.values() if rows[row["number"]][0]["duplicate_of"]]
    assert repeated
    for row in repeated:
        assert row["other"]["because"] == "duplicate_of"
        assert row["other"]["id"] == rows[row["number"]][0]["duplicate_of"]
    overlapping = [
        row["other"] for row in shown.values() if row.get("other", {}).get("because") == "overlap_s"
    ]
    assert overlapping
    for number, row in shown.items():
        if row.get("other") in overlapping:
            assert abs(row["other"]["number"] - number) == 1, "its neighbours share half a second with it"
    cells, texts = next(iter(made_up_rows(1)))
    words = texts["transcript"].split()
    texts["transcript"], cells["recognized"] = " ".join(words), " ".join(["vâng", *words[:4], *words[5:7]])
    folder = page.parent / "one row"
    manifest = write_made_up_audit(folder, [(cells | {"wer": "0.375", "silence": "0.9"}, texts)])
    (row,) = data_of(write_audit_page(folder, manifest, folder))["rows"]
    assert [column for column in row["words"] if len(column) > 1] == [
        ["", "vâng", "extra", "1"],
        [words[4].lower(), "", "missing"],
        [words[7].lower(), "", "missing", "1"],
    ]


def test_levels_of_rows_and_of_the_sample_are_those_of_the_clauses(page: Path, rows: Rows) -> None:
    data = data_of(page)
    for position, clause in enumerate(data["clauses"]):
        text = clause["steps"][0]
        if clause["sign"]:
            text = f"{clause['signal']} {clause['sign']} {text}"
        if clause["condition"]:
            text += f" and {clause['condition']}"
        drops = DropExpression(text).drops
        sampled = base64.b64decode(clause["sampled"])
        assert [0 < level < 255 for level in sampled] == [drops(cells) for cells, _ in rows]
        for row in data["rows"]:
            level = base64.b64decode(row["levels"])[position]
            assert (0 < level < 255) == drops(rows[row["number"]][0])


def test_other_rows_than_the_audits_are_refused(tmp_path: Path) -> None:
    made_up = list(made_up_rows(5))
    manifest = write_made_up_audit(tmp_path, made_up)
    lines = manifest.read_text(encoding="utf-8").splitlines(keepends=True)
    for text, found in (
        ("".join(lines[:-1]), "one of them ends after 4 rows"),
        ("".join([*lines[:2], *lines[:1:-1]]), "line 3 is of audio/1.wav, not audio/4.wav"),
    ):
        manifest.write_text(text, encoding="utf-8")
        with pytest.raises(ManifestError) as error:
            write_audit_page(tmp_path, manifest, tmp_path)
        assert error.value.found == found


def test_the_page_of_many_rows_is_not_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vietst.audit.clauses.NUM_SAMPLED", 200)
    sizes = []
    for num_rows in (3000, 6000):
        folder = tmp_path / str(num_rows)
        manifest = write_made_up_audit(folder, list(made_up_rows(num_rows)))
        sizes.append(write_audit_page(folder, manifest, folder).stat().st_size)
    assert sizes[1] < 1.25 * sizes[0]


def test_it_says_what_was_dropped(tmp_path: Path) -> None:
    manifest = write_made_up_audit(tmp_path, list(made_up_rows(5)))
    assert "Nothing has been dropped." in Page(write_audit_page(tmp_path, manifest, tmp_path)).text
    decision = {
        "drop": "wer > 0.7",
        "dropped": {"num_rows": 1234, "hours": 0.5},
        "output": {"path": "data/kept.tsv", "num_rows": 4, "hours": 1.5},
    }
    text = Page(write_audit_page(tmp_path, manifest, tmp_path, decision)).text
    assert '1,234 rows (30.0 min) were dropped, with --drop "wer > 0.7" .' in text
    assert "The 4 rows that stay (90.0 min) are in kept.tsv" in text


# --- in a browser -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, page: Path) -> Iterator[Any]:
    """The page in a tab, which may neither complain nor ask for anything but the files."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: complaints.append(dialog.message))
    tab.on("request", lambda request: request.url.startswith("file:") or complaints.append(request.url))
    tab.goto(page.as_uri())
    yield tab
    assert complaints == []
    context.close()


def kept_in_words(rows: Rows, expression: str) -> str:
    """What the page must say, counted row by row."""
    dropped = [cells for cells, _ in rows if DropExpression(expression).drops(cells)]
    seconds, dropped_s = (
        sum(float(cells["duration"]) for cells in some) for some in ([cells for cells, _ in rows], dropped)
    )
    kept, all_of_it = (
        f"{minutes / 60:.1f}\N{NO-BREAK SPACE}min" for minutes in (seconds - dropped_s, seconds)
    )
    return f"Keeps {kept} of {all_of_it}, drops {len(dropped)} rows"


def expression_of(tab: Any) -> str:
    command = tab.inner_text("form.expression code")
    assert tab.inner_text("#drop [data-part=command]") == command
    return str(command.removeprefix('--drop "').removesuffix('"'))


@needs_browser
def test_a_moved_threshold_shows_what_is_kept_and_the_expression(opened: Any, rows: Rows) -> None:
    kept = opened.locator("form.expression output")
    suggested = expression_of(opened)
    assert kept.inner_text() == kept_in_words(rows, suggested), "several clauses"
    opened.get_by_role("button", name="Clear").click()
    slider = opened.get_by_role("slider", name="Threshold of silence")
    slider.focus()
    opened.keyboard.press("Home")
    for _ in range(30):
        opened.keyboard.press("ArrowRight")
    expression = expression_of(opened)
    assert re.fullmatch(r"silence > 0\.\d+", expression)
    assert kept.inner_text() == kept_in_words(rows, expression), "one clause"
    opened.get_by_role("slider", name="Threshold of speech").press("Home")
    for _ in range(3):
        opened.keyboard.press("PageUp")
    expression = expression_of(opened)
    assert re.search(r"speech < 0\.\d+", expression)
    assert kept.inner_text() == kept_in_words(rows, expression), "two, of which one is not always measured"
    opened.get_by_role("button", name="Suggested").click()
    assert expression_of(opened) == suggested


@needs_browser
def test_the_worst_can_be_listened_to_filtered_and_sorted(opened: Any, rows: Rows) -> None:
    opened.locator("#signal-silence").get_by_role("button", name=f"Listen to the {NUM_WORST} worst").click()
    assert opened.evaluate("document.activeElement.id") == "list"
    for _ in range(9):
        opened.locator("#more").click()
    shown = opened.locator("#rows article h3 [data-part=id]").all_inner_texts()
    worst = most_silent_first(rows)[:NUM_WORST]
    assert shown == [texts["id"] for texts in worst]
    told = opened.locator("#rows article .findings").all_inner_texts()
    assert all(re.search(r"silence [01]", findings) for findings in told), "what they are listed for"
    assert not opened.locator("#more").is_visible()
    video = worst[0]["video_id"]
    opened.select_option("#video", video)
    opened.select_option("#order", "manifest")
    filtered = opened.locator("#rows article h3 [data-part=id]").all_inner_texts()
    of_video = [texts["id"] for texts in worst if texts["video_id"] == video]
    assert filtered == sorted(of_video, key=lambda name: int(name.split()[0]))[:10]


@needs_browser
def test_rows_play_or_say_why_not(opened: Any) -> None:
    opened.select_option("#list", label="duplicate_of: same audio as an earlier row")
    articles = opened.locator("#rows article")
    assert articles.first.locator("audio").count() == 2, "its own player, and the earlier row's"
    lengths = opened.evaluate(
        """() => Promise.all([...document.querySelectorAll("#rows article:first-child audio")].map(
            (audio) => new Promise((done) => {
                audio.onloadedmetadata = () => done(audio.duration);
                audio.onerror = () => done(audio.error.message);
                audio.load();
                audio.preload = "metadata";
            })))"""
    )
    assert lengths == [0.5, 0.5]
    opened.select_option("#list", label="silence, highest first: silence")
    assert articles.first.locator("[data-part=audio] audio").count() == 0
    assert "No player: not found below the audio root." in articles.first.inner_text()
    opened.select_option("#list", label="duplicate_of: same audio as an earlier row")
    opened.locator("#rows audio").first.evaluate("audio => { audio.src = 'audit.json'; audio.load(); }")
    articles.first.get_by_text("No player: this browser cannot play the file").wait_for()


@needs_browser
def test_rows_say_whether_the_expression_drops_them(opened: Any) -> None:
    opened.select_option("#list", "suspicious")
    marks = opened.locator("#rows .would-drop:visible")
    assert marks.count() == opened.locator("#rows article").count() > 0
    opened.get_by_role("button", name="Clear").click()
    assert marks.count() == 0


@needs_browser
def test_a_phone_shows_it_without_scrolling_sideways(opened: Any) -> None:
    opened.set_viewport_size({"width": 360, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") == 360
    too_far_right = """[...document.querySelectorAll('button, input, select, audio, p')].filter(
        shown => shown.checkVisibility() && shown.getBoundingClientRect().right > innerWidth + 1).length"""
    assert opened.evaluate(too_far_right) == 0
    num_rows = opened.locator("#overview tbody tr td:nth-child(3)").all()
    assert num_rows
    assert all(cell.bounding_box()["x"] + cell.bounding_box()["width"] <= 360 for cell in num_rows)


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_by_day_and_by_night(scheme: str, opened: Any) -> None:
    opened.emulate_media(color_scheme=scheme)
    assert opened.evaluate(LOW_CONTRAST) == []


@needs_browser
def test_without_a_script_tables_and_counts_are_there_and_nothing_to_press(browser: Any, page: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(page.as_uri())
    assert "need JavaScript" in tab.inner_text("noscript")
    assert tab.locator("main button:visible, main input:visible, main select:visible").count() == 0
    assert tab.inner_text("#signal-duration .clause >> nth=0").endswith("short clip: 0 rows")
    context.close()
