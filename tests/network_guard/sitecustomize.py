"""Python imports this at its start where this folder is in PYTHONPATH: whoever leaves the machine is caught.

Looking up or connecting to anything but the loopback interface fails, and the host is written to the file
that `NETWORK_GUARD_RECORD` names.
"""

import os
import socket
from pathlib import Path
from typing import Any

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_connect, _getaddrinfo = socket.socket.connect, socket.getaddrinfo


def _refuse(host: Any) -> OSError:
    with Path(os.environ["NETWORK_GUARD_RECORD"]).open("a", encoding="utf-8") as record:
        record.write(f"{host}\n")
    return OSError(f"the network guard of the tests refuses {host}")


def connect(self: socket.socket, address: Any) -> None:
    if isinstance(address, tuple) and address[0] not in _LOOPBACK:
        raise _refuse(address[0])
    _connect(self, address)


def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    if host is not None and host not in _LOOPBACK:
        raise _refuse(host)
    return _getaddrinfo(host, *args, **kwargs)


socket.socket.connect = connect
socket.getaddrinfo = getaddrinfo
