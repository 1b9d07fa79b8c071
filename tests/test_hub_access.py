"""Is a base model at hand?"""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


class Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/there/model/resolve/main/config.json" else 404)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub_url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def at_hand(model: str, **environment: str) -> list[str]:
    program = (
        f"from vietst.hub_access import base_model_at_hand; print(*base_model_at_hand({model!r}), sep='|')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return answer.stdout.strip().split("|")


def test_a_folder_is_at_hand(tmp_path: Path) -> None:
    assert at_hand(str(tmp_path))[0] == "True"


def test_a_model_on_a_hub_that_answers_is_at_hand(hub_url: str) -> None:
    online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub_url, "NO_PROXY": "127.0.0.1"}
    assert at_hand("there/model", **online)[0] == "True"
    verdict, reason = at_hand("not/there", **online)
    assert verdict == "False"
    assert hub_url in reason


def test_offline_means_that_the_hub_is_not_asked(hub_url: str) -> None:
    verdict, reason = at_hand("there/model", HF_HUB_OFFLINE="1", HF_ENDPOINT=hub_url)
    assert verdict == "False"
    assert "HF_HUB_OFFLINE" in reason


def test_a_hub_that_is_not_there_is_an_answer_not_an_error() -> None:
    verdict, reason = at_hand("there/model", HF_HUB_OFFLINE="0", HF_ENDPOINT="http://127.0.0.1:9")
    assert verdict == "False"
    assert "does not answer" in reason


def test_weights_in_the_cache_are_at_hand_offline(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub/models--there--model/snapshots/abc"
    snapshot.mkdir(parents=True)
    refs = tmp_path / "hub/models--there--model/refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    assert at_hand("there/model", HF_HOME=str(tmp_path))[0] == "False"
    (snapshot / "pytorch_model.bin").write_text("weights")
    assert at_hand("there/model", HF_HOME=str(tmp_path))[0] == "True"
