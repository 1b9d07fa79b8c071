"""A Hugging Face Hub on the loopback interface: the part of its HTTP API that huggingface_hub 2.4 uses.

    with LoopbackHub(tmp_path / "hub") as hub:
        hub.store.publish("openai/whisper-tiny", folder)
        subprocess.run([...], env=hub.client_environment(hf_home))

It serves from a thread of this process and remembers every request. Uploads go the LFS way: clients need
`HF_HUB_DISABLE_XET=1`, which `client_environment` sets. It can be slow and broken, and be killed and brought
back.
"""

import contextlib
import dataclasses
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub import reading, writing
from tests.hub.access import Hub
from tests.hub.messages import HubError, Request, Response
from tests.hub.repositories import HubStore
from tests.ports import free_port

TOKEN = "hf_test"
"""May write, and read private repositories."""

READ_TOKEN = "hf_read"
"""Of the same account; may read private repositories, and write nothing."""


@dataclasses.dataclass
class Mood:
    """How the Hub answers requests that match a pattern ("METHOD path"): not yet, or with an HTTP error."""

    pattern: str
    until: threading.Event | None = None
    """None: at once."""

    status: int | None = None
    message: str = "not today"
    times: int | None = None
    """How often; None: always."""

    min_bytes: int = 0
    """Requests with a smaller body are answered as usual."""

    def is_for(self, asked: str, num_bytes: int) -> bool:
        return self.times != 0 and num_bytes >= self.min_bytes and bool(re.search(self.pattern, asked))


_REPO_ID = r"(?P<repo_id>[^/]+/[^/]+)"
_REVISION = r"(?P<revision>[^/]+)"
_KIND = r"/api/(?P<plural>models|datasets|spaces)"
_OPTIONAL_KIND = r"/(?:(?P<plural>datasets|spaces)/)?"
_CONTENT = r"/_lfs/(?P<sha256>[0-9a-f]{64})"

Endpoint = Callable[..., Response]

_ROUTES: list[tuple[str, str, Endpoint]] = [
    ("GET", f"{_OPTIONAL_KIND}{_REPO_ID}/(?:resolve|raw)/{_REVISION}/(?P<path>.+)", reading.download),
    ("GET", _CONTENT, reading.download_content),
    ("GET", "/api/whoami-v2", reading.whoami),
    ("GET", _KIND, reading.list_repositories),
    ("GET", f"{_KIND}/{_REPO_ID}", reading.repository_info),
    ("GET", f"{_KIND}/{_REPO_ID}/revision/{_REVISION}", reading.repository_info),
    ("GET", f"{_KIND}/{_REPO_ID}/refs", reading.list_references),
    ("GET", f"{_KIND}/{_REPO_ID}/commits/{_REVISION}", reading.list_commits),
    ("GET", f"{_KIND}/{_REPO_ID}/discussions", reading.list_discussions),
    ("GET", f"{_KIND}/{_REPO_ID}/tree/{_REVISION}(?:/(?P<folder>.*))?", reading.list_tree),
    ("POST", f"{_KIND}/{_REPO_ID}/paths-info/{_REVISION}", reading.paths_info),
    ("POST", "/api/validate-yaml", writing.validate_card),
    ("POST", "/api/repos/create", writing.create_repository),
    ("DELETE", "/api/repos/delete", writing.delete_repository),
    ("PUT", f"{_KIND}/{_REPO_ID}/settings", writing.change_settings),
    ("POST", f"{_KIND}/{_REPO_ID}/branch/(?P<name>[^/]+)", writing.create_branch),
    ("DELETE", f"{_KIND}/{_REPO_ID}/branch/(?P<name>[^/]+)", writing.delete_branch),
    ("POST", f"{_KIND}/{_REPO_ID}/tag/{_REVISION}", writing.create_tag),
    ("DELETE", f"{_KIND}/{_REPO_ID}/tag/(?P<name>[^/]+)", writing.delete_tag),
    ("POST", f"{_KIND}/{_REPO_ID}/preupload/{_REVISION}", writing.preupload),
    ("POST", f"{_KIND}/{_REPO_ID}/commit/{_REVISION}", writing.commit),
    ("POST", rf"{_OPTIONAL_KIND}{_REPO_ID}\.git/info/lfs/objects/batch", writing.lfs_batch),
    ("PUT", _CONTENT, writing.lfs_put),
    ("POST", f"{_CONTENT}/verify", writing.lfs_verify),
]
ROUTES = [(method, re.compile(pattern), endpoint) for method, pattern, endpoint in _ROUTES]


class _Server(ThreadingHTTPServer):
    """Knows the connections that are open, to break them."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is nothing to print."""


class LoopbackHub:
    """The running server.

    `requests` lists "METHOD path" of everything that was asked, `held` what a mood has let wait. The first of
    `moods` that fits a request decides about it.
    """

    def __init__(self, folder: Path) -> None:
        self.store = HubStore(folder)
        self.requests: list[str] = []
        self.moods: list[Mood] = []
        self.held: list[str] = []
        self._hub = Hub(self.store, TOKEN, READ_TOKEN)
        self._lock = threading.Lock()
        self.port = free_port()
        self._server = _Server(self.port, _handler_class(self.answer))
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        """Stop: from now on, connections are refused."""
        self._server.shutdown()
        self._server.server_close()

    def kill(self) -> None:
        """Stop in the middle of whatever is going on: open connections break."""
        self.__exit__()
        for connection in list(self._server.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def bring_back(self) -> None:
        """Serve again at the same address, with what was there."""
        self._server = _Server(self.port, _handler_class(self.answer))
        self.__enter__()

    def asked(self, pattern: str) -> list[str]:
        """The requests so far that match."""
        return [request for request in self.requests if re.search(pattern, request)]

    def client_environment(self, hf_home: Path, **extra: str) -> dict[str, str]:
        """This process's environment for a client whose Hub this is and whose cache lies in `hf_home`."""
        environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
        return environment | {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(hf_home),
            "HF_HUB_DISABLE_XET": "1",
            **extra,
        }

    def answer(self, request: Request) -> Response:
        asked = f"{request.method} {request.path}"
        self.requests.append(asked)
        for mood in self.moods:
            if not mood.is_for(asked, len(request.body)):
                continue
            mood.times = None if mood.times is None else mood.times - 1
            if mood.until is not None:
                self.held.append(asked)
                mood.until.wait()
            if mood.status is not None:
                return HubError(mood.status, mood.message).response()
            break
        with self._lock:
            try:
                return self._route(request)
            except HubError as refusal:
                return refusal.response()

    def _route(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        for route_method, pattern, endpoint in ROUTES:
            match = pattern.fullmatch(request.path) if route_method == method else None
            if match is not None:
                groups = {name: unquote(value) for name, value in match.groupdict().items() if value}
                return endpoint(self._hub, request, **groups)
        raise HubError(404, f"Not found: {request.method} {request.path}")


def _handler_class(answer: Callable[[Request], Response]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on stderr: the hub keeps its own list."""

        def exchange(self) -> None:
            self._send(answer(self._request()))

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = exchange

        def _request(self) -> Request:
            url = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            return Request(
                method=self.command,
                path=url.path,
                query={name: values[0] for name, values in parse_qs(url.query).items()},
                headers=headers,
                body=self._body(headers),
                base_url=f"http://{headers['host']}",
            )

        def _body(self, headers: dict[str, str]) -> bytes:
            if headers.get("transfer-encoding", "").lower() != "chunked":
                return self.rfile.read(int(headers.get("content-length", 0)))
            body = b""
            while num_bytes := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(num_bytes)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _send(self, response: Response) -> None:
            path = response.body_path
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(path.stat().st_size if path else len(response.body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if path is None:
                self.wfile.write(response.body)
                return
            with path.open("rb") as file:
                shutil.copyfileobj(file, self.wfile)

    return Handler
