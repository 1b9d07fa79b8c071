"""The real page, served by the real script, used in a real browser (headless Chromium)."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.browser import CHROMIUM
from tests.memorizing_model import Clip
from tests.patience import HANGS_AFTER_S
from tests.ports import free_port

MISSING = [
    *(name for name in ("gradio", "playwright") if find_spec(name) is None),
    *([] if CHROMIUM else ["a Chromium"]),
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)} (extras demo and dev)"),
]

MAX_UPLOAD_MB, MAX_DURATION_S = 0.3, 5
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


class Server:
    """The script in a process of its own, which may reach nothing but this machine."""

    def __init__(self, repo_root: Path, model: Path, folder: Path) -> None:
        self.folder, self.left_machine = folder, folder / "hosts"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [
                *(sys.executable, str(repo_root / "scripts" / "demo.py"), "--model", str(model)),
                *("--port", str(port), "--max_upload_mb", str(MAX_UPLOAD_MB)),
                *("--max_duration_s", str(MAX_DURATION_S)),
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(repo_root / "tests" / "network_guard"), str(repo_root)]),
                "NETWORK_GUARD_RECORD": str(self.left_machine),
                "TMPDIR": str(self.temporary),
            },
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert said == f"Open {self.url} in a browser. Ctrl-C ends this.\n", self.log()

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=HANGS_AFTER_S)
        self._log.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


@pytest.fixture(scope="module")
def server(
    repo_root: Path, memorizing_model: tuple[Path, list[Clip]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    running = Server(repo_root, memorizing_model[0], tmp_path_factory.mktemp("demo"))
    yield running
    assert running.stop() == 0
    assert not running.left_machine.exists(), "the server asked other hosts"
    left = [*running.temporary.glob("vietst-demo-*"), *running.temporary.rglob("*.wav")]
    assert left == [], "uploaded recordings stay behind"
    assert "Traceback" not in running.log()


@pytest.fixture
def browser() -> Iterator[Any]:
    """For each test another: after some closed contexts, Chromium opens no file chooser by keyboard."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class User:
    """A browser of its own, with what it asked for."""

    def __init__(self, browser: Any, url: str, viewport: dict[str, int]) -> None:
        self.context = browser.new_context(viewport=viewport, accept_downloads=True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * HANGS_AFTER_S)
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        # Whoever listens first has Chromium hand its file chooser over, and a key that is pressed meanwhile
        # may open it for nobody. So somebody listens from the beginning.
        self.page.on("filechooser", lambda chooser: None)
        self.page.goto(url)
        self.button = self.page.get_by_role("button", name="Transcribe")
        self.button.wait_for()

    def upload(self, path: Path) -> None:
        self.page.set_input_files("input[type=file]", path)
        self.page.get_by_label("Clear").wait_for()

    def results(self) -> tuple[str, str]:
        """Transcript and translation."""
        self.page.wait_for_selector(".result .transcript dd")
        parts = (self.page.inner_text(f".result .{name} dd") for name in ("transcript", "translation"))
        return next(parts), next(parts)

    def problem(self) -> str:
        return self.page.wait_for_selector("[role=alert].problem").inner_text()


@pytest.fixture
def user(browser: Any, server: Server) -> Iterator[User]:
    """Who also looks whether the browser asked any host but the server."""
    someone = User(browser, server.url, DESKTOP)
    yield someone
    hosts = {url.split("/")[2] for url in someone.asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {server.url.split("/")[2]}
    someone.context.close()


def test_an_upload_becomes_marked_transcript_translation_and_subtitles(
    user: User, memorizing_model: tuple[Path, list[Clip]]
) -> None:
    from vietst.evaluation.word_language import WordTag, tag_words
    from vietst.inference import SpeechTranslator
    from vietst.inference.transcript_files import FORMATS

    model, (clip, *_) = memorizing_model
    expected = SpeechTranslator.from_pretrained(model)(clip.audio, max_segment_s=7)
    user.upload(clip.audio)
    user.button.click()
    assert (
        user.results() == (expected.transcript, expected.translation) == (clip.transcript, clip.translation)
    )
    marked = " ".join(user.page.locator(".transcript mark").all_inner_texts()).split()
    english = [word for word, tag in tag_words(clip.transcript) if tag is WordTag.ENGLISH]
    assert marked == english != []
    (segment,) = expected.segments
    shown = user.page.inner_text(".time")
    assert re.findall(r"0:0\d\.\d", shown) == [
        f"0:0{time_s:.1f}" for time_s in (segment.start_s, segment.end_s)
    ]
    with user.page.expect_download() as download:
        user.page.get_by_role("link", name="Download SRT").click()
    assert download.value.suggested_filename == f"{clip.audio.stem}.srt"
    assert Path(download.value.path()).read_text(encoding="utf-8") == FORMATS["srt"](expected)


def test_recordings_that_cannot_be_heard_give_a_sentence(user: User, tmp_path: Path) -> None:
    assert "choose a sound file" in user.page.inner_text("body"), "Gradio's recorder takes no video"
    user.button.click()
    assert user.problem() == "Please record something or choose a file first."
    long, broken, large = tmp_path / "long.flac", tmp_path / "broken.wav", tmp_path / "large.wav"
    soundfile.write(long, np.zeros(16_000 * (MAX_DURATION_S + 1), dtype=np.float32), 16_000)
    broken.write_bytes(b"no sound " * 100)
    soundfile.write(large, np.zeros(1_000_000, dtype=np.float32), 16_000)
    for path, sentence in (
        (long, f"This recording is too long: the limit is {MAX_DURATION_S} seconds."),
        (broken, "This file cannot be read as sound."),
    ):
        user.page.reload()
        user.upload(path)
        user.button.click()
        assert user.problem().startswith(sentence)
    user.page.get_by_label("Clear").click()
    user.page.wait_for_selector("[role=alert].problem", state="detached")
    user.page.reload()
    user.button.wait_for()
    user.page.set_input_files("input[type=file]", large)
    user.page.get_by_text("exceed the maximum allowed size").wait_for()


def test_the_server_itself_refuses_files_that_are_too_large(server: Server) -> None:
    """Whatever a browser lets pass."""
    import httpx

    sent = {"files": ("large.wav", b"\0" * int(MAX_UPLOAD_MB * 2**20 + 1000))}
    assert httpx.post(f"{server.url}gradio_api/upload", files=sent).status_code == 413


def test_two_users_at_once_get_their_own(
    browser: Any, server: Server, user: User, memorizing_model: tuple[Path, list[Clip]]
) -> None:
    first, second = memorizing_model[1][1:3]
    other = User(browser, server.url, DESKTOP)
    user.upload(first.audio)
    other.upload(second.audio)
    user.button.click()
    other.button.click()
    assert other.results() == (second.transcript, second.translation)
    assert user.results() == (first.transcript, first.translation)
    other.context.close()


def test_no_sentence_comes_to_stand_under_another_recording(
    user: User, memorizing_model: tuple[Path, list[Clip]]
) -> None:
    """The first one is still heard when it is taken away."""
    first, second = memorizing_model[1][1:3]
    user.upload(first.audio)
    user.button.click()
    user.page.get_by_label("Clear").click()
    user.page.wait_for_selector(".result", state="detached")
    user.page.evaluate(
        """() => {
            window.shown = [];
            new MutationObserver(() => window.shown.push(document.body.innerText)).observe(
                document.body, {childList: true, subtree: true, characterData: true});
        }"""
    )
    user.upload(second.audio)
    user.button.click()
    assert user.results() == (second.transcript, second.translation)
    shown = user.page.evaluate("window.shown")
    assert not [text for text in shown if first.transcript in text or "Error" in text]


def test_the_keyboard_alone_is_enough(user: User, memorizing_model: tuple[Path, list[Clip]]) -> None:
    clip = memorizing_model[1][3]

    def tab_to(name: str) -> None:
        for _ in range(15):
            user.page.keyboard.press("Tab")
            focused = user.page.evaluate(
                "[document.activeElement.ariaLabel, document.activeElement.innerText].join(' ')"
            )
            if name in focused:
                outline = user.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline == "solid", "the focus is not seen"
                return
        raise AssertionError(f"{name} is not reached")

    tab_to("upload")
    with user.page.expect_file_chooser() as chooser:
        user.page.keyboard.press("Enter")
    chooser.value.set_files(clip.audio)
    user.page.get_by_label("Clear").wait_for()
    tab_to("Transcribe")
    user.page.keyboard.press("Enter")
    assert user.results() == (clip.transcript, clip.translation)
    tab_to("Download VTT")
    with user.page.expect_download() as download:
        user.page.keyboard.press("Enter")
    assert download.value.suggested_filename.endswith(".vtt")


def test_a_phone_shows_it_without_scrolling_sideways(
    browser: Any, server: Server, memorizing_model: tuple[Path, list[Clip]]
) -> None:
    phone = User(browser, server.url, PHONE)
    phone.upload(memorizing_model[1][0].audio)
    phone.button.click()
    phone.results()
    assert phone.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    too_far_right = """[...document.querySelectorAll('button, a, dd, p')].filter(
        shown => shown.checkVisibility() && shown.getBoundingClientRect().right > innerWidth).length"""
    assert phone.page.evaluate(too_far_right) == 0
    heights = phone.page.evaluate(
        "[...document.querySelectorAll('.result a')].map(link => link.offsetHeight)"
    )
    assert min(heights) >= 40, "links are high enough for a thumb"
    phone.context.close()
