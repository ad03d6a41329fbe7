"""Traffic for the tests of profiles and of advice."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from tests.unit.gateway.running import Running


@contextlib.contextmanager
def traffic(
    gateway: Running, name: str, clients: int = 2, bodies: Sequence[bytes] = (b"[1]",), stride: int = 1
) -> Iterator[list[Any]]:
    """Requests from so many clients, one after the other each; what was answered.

    Client k begins with the k-th body, and goes on to the one `stride` behind it.
    """
    over, answers = threading.Event(), []

    def send(number: int) -> None:
        at = number
        while not over.is_set():
            answers.append(json.loads(gateway.client.predict(name, bodies[at % len(bodies)])[1]))
            at += stride

    senders = [threading.Thread(target=send, args=(number,)) for number in range(clients)]
    for sender in senders:
        sender.start()
    try:
        yield answers
    finally:
        over.set()
        for sender in senders:
            sender.join()
