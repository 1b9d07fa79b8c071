"""Ports for servers that are told where to listen."""

import random
import socket

_NOBODY_GETS_BY_CHANCE = range(20_000, 32_000)
"""Systems give ports above these to whoever asks for any, connections of clients among them."""


def free_port() -> int:
    """A port of this machine that is free, and stays so until its server is there or comes back."""
    while True:
        port = random.SystemRandom().choice(_NOBODY_GETS_BY_CHANCE)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                continue
        return port
