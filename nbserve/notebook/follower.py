"""Follows the event streams of this notebook's gateways and hands each event to the boards. One daemon thread each."""

from __future__ import annotations

import threading
from collections.abc import Callable

from nbserve.client import Client
from nbserve.errors import NbserveError
from nbserve.wire.management import Event

__all__ = ["Follower"]

_RETRY_S = 0.5


class Follower:
    """`follow` starts a gateway's thread once; it ends when that gateway can no longer be reached."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self._followed: dict[str, threading.Thread] = {}
        self._closing = threading.Event()

    def follow(self, client: Client) -> None:
        """Have this gateway's events from now on."""
        thread = self._followed.get(client.token)
        if thread is not None and thread.is_alive():
            return
        thread = threading.Thread(target=self._run, args=(client,), name="nbserve-events", daemon=True)
        self._followed[client.token] = thread
        thread.start()

    def close(self) -> None:
        """Hand on no more events."""
        self._closing.set()

    def _run(self, client: Client) -> None:
        seen = 0
        while not self._closing.is_set():
            try:
                for event in client.events(since=seen):
                    if self._closing.is_set():
                        return
                    seen = event.seq
                    self._on_event(event)
                client.status()  # the stream broke: is the gateway gone?
            except NbserveError:
                return
            self._closing.wait(_RETRY_S)
