"""ENABLE_TORCH_PROFILER, as TorchServe has it: every batch of every endpoint is profiled, one profile after the other.

TorchServe writes a file for each request, until the disk is full; here a profile has ten batches, and the last five are
kept. Called by gateway/gateway, which runs `profile_always` as a task of its own where the variable is set.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from typing import Protocol

from nbserve.errors import NbserveError
from nbserve.wire.profile import MAX_SECONDS, ProfileRequest, ProfileStatus

__all__ = ["is_profiling_asked", "profile_always"]

log = logging.getLogger("nbserve.gateway")

LOOK_EVERY_S = 0.5
"""How soon the next profile follows the last."""
AFTER_FAILURE_S = 60.0
"""How soon it follows one that has failed: the next may fail as well, and each is a line in the endpoint's log."""
_ASKED = ProfileRequest(batches=10, seconds=MAX_SECONDS, shapes=True)


def is_profiling_asked() -> bool:
    """Whether ENABLE_TORCH_PROFILER is set, as TorchServe reads it: to anything but nothing; here also not to 0."""
    return os.environ.get("ENABLE_TORCH_PROFILER", "").lower() not in ("", "0", "false")


class _Profiles(Protocol):
    """What is used of gateway/profiles.Profiles."""

    def start(self, name: str, asked: ProfileRequest, version: str = "", *, log_table: bool = False) -> ProfileStatus:
        """Begin one."""

    def last(self, name: str) -> tuple[ProfileStatus, float] | None:
        """The newest of the version that serves, and for how many seconds it has been over."""


class _Registry(Protocol):
    """What is used of gateway/registry.Registry."""

    def names(self) -> Iterable[str]:
        """All models."""


async def profile_always(profiles: _Profiles, registry: _Registry) -> None:
    """Never returns."""
    while True:
        for name in list(registry.names()):
            try:
                if is_due(profiles.last(name)):
                    profiles.start(name, _ASKED, log_table=True)
            except NbserveError as exc:
                log.debug("%s is not profiled now: %s", name, exc.message)
        await asyncio.sleep(LOOK_EVERY_S)


def is_due(last: tuple[ProfileStatus, float] | None) -> bool:
    """Whether the next profile is to begin, by the last one and the seconds since its end."""
    if last is None:
        return True
    status, ended_s_ago = last
    return status.state == "done" or (status.state == "failed" and ended_s_ago >= AFTER_FAILURE_S)
