"""What goes between a Hub client and the loopback Hub: a request in, a response or a refusal out."""

import dataclasses
import json
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Request:
    """One HTTP request. `base_url` is how the client addressed this server, without a final slash."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: bytes
    base_url: str

    def json(self) -> Any:
        return json.loads(self.body) if self.body else {}

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() in ("1", "true")


@dataclasses.dataclass(frozen=True)
class Response:
    """One HTTP response: `body`, or the bytes of the file `body_path`."""

    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    body_path: Path | None = None


class HubError(Exception):
    """A request that the Hub refuses; `code` is what huggingface_hub chooses its exception by."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers

    def response(self) -> Response:
        headers = {"X-Error-Message": self.message, **self.headers}
        if self.code is not None:
            headers["X-Error-Code"] = self.code
        return json_response({"error": self.message}, status=self.status, headers=headers)


def json_response(payload: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    headers = {"Content-Type": "application/json", **(headers or {})}
    return Response(status, headers, json.dumps(payload).encode())
