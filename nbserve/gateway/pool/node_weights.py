"""One copy of the weights in the memory of each NUMA node that workers run on, where the machine has several.

The pages of a file that workers map lie on one node, whichever read them first. `NodeWeights`, one for each gateway
(registry.py), copies large weights into memory files, by a thread that runs on the node's own cores, so that the pages
are the node's; the workers there map the copy instead. They open it by the gateway's /proc/PID/fd, so that nothing
needs to be handed over. The system frees it once the gateway has closed it, or was killed, and no worker maps it.

On a machine with one node nothing of this happens.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from nbserve.bundle import Bundle
from nbserve.bundle.digests import SHARED_BYTES
from nbserve.gateway.cancellation import to_the_end
from nbserve.gateway.pool.memory import MEMORY_FILE
from nbserve.gateway.pool.topology import Topology, read_memory

__all__ = ["NodeWeights", "WeightsLease", "why_no_copy"]

log = logging.getLogger("nbserve.pool")

LEFT_BYTES = 1 << 30
"""So much memory must be free beside the copies."""


class Weights(NamedTuple):
    """A large file of a bundle; its digest tells whether two bundles have the same one."""

    file: str
    digest: str
    size_bytes: int


class Copy(NamedTuple):
    """A memory file, open in this process."""

    fd: int
    size_bytes: int
    users: set[WeightsLease]


def why_no_copy(needed_bytes: int, available_bytes: int) -> str:
    """Why so much is not copied, in words; empty = it is. Pure."""
    if needed_bytes + LEFT_BYTES <= available_bytes:
        return ""
    return f"{needed_bytes / 1e9:.1f} GB are needed for it, and {available_bytes / 1e9:.1f} GB of memory are free"


class NodeWeights:
    """All copies of a gateway, by digest and node. All on its loop."""

    def __init__(self, topology: Topology) -> None:
        self._cpus: dict[int, list[int]] = {}
        for core in topology.cores:
            self._cpus.setdefault(core.node, []).append(core.cpu)
        self._copies: dict[tuple[str, int], Copy] = {}
        self._turn = asyncio.Lock()

    def lease(self, bundle: Bundle, say: Callable[[str], None]) -> WeightsLease | None:
        """For the workers of one version; `close` it with them. None where there is nothing to copy.

        say: told why there is no copy on a node, once.
        """
        large = [
            Weights(file, digest, size)
            for file, digest in bundle.manifest.files.items()
            if file.endswith(".safetensors") and (size := (bundle.path / file).stat().st_size) >= SHARED_BYTES
        ]
        return WeightsLease(self, bundle.path, large, say) if large and self.has_several_nodes else None

    @property
    def has_several_nodes(self) -> bool:
        """Whether it does anything here."""
        return len(self._cpus) > 1 and hasattr(os, "memfd_create")

    async def provide(self, lease: WeightsLease, node: int) -> dict[str, str]:
        """See `WeightsLease.on`. Raises OSError."""
        async with self._turn:  # the second worker of a node finds what the first has copied
            missing = [one for one in lease.weights if (one.digest, node) not in self._copies]
            available_bytes = (await asyncio.to_thread(read_memory)).available_bytes if missing else 0
            if missing and (why := why_no_copy(sum(one.size_bytes for one in missing), available_bytes)):
                raise OSError(why)
            for one in missing:
                await to_the_end(self._copy(lease.root, one, node))
            here = {one.file: self._copies[one.digest, node] for one in lease.weights}
            for copy in here.values():
                copy.users.add(lease)
            return {file: f"/proc/{os.getpid()}/fd/{copy.fd}" for file, copy in here.items()}

    async def _copy(self, root: Path, one: Weights, node: int) -> None:
        fd = await asyncio.to_thread(_copied, root / one.file, self._cpus[node])
        self._copies[one.digest, node] = Copy(fd, one.size_bytes, set())

    def release(self, lease: WeightsLease) -> None:
        """Close what nobody else uses."""
        for key, copy in list(self._copies.items()):
            copy.users.discard(lease)
            if not copy.users:
                os.close(copy.fd)
                del self._copies[key]

    def sizes(self, lease: WeightsLease) -> dict[str, int]:
        """Bytes by node."""
        found: dict[str, int] = {}
        for (_, node), copy in sorted(self._copies.items(), key=lambda item: item[0][1]):
            if lease in copy.users:
                found[str(node)] = found.get(str(node), 0) + copy.size_bytes
        return found


class WeightsLease:
    """The weights of one version."""

    def __init__(
        self, owner: NodeWeights, root: Path, weights: Collection[Weights], say: Callable[[str], None]
    ) -> None:
        self.root, self.weights = root, weights
        self._owner, self._say = owner, say
        self._is_closed = False

    async def on(self, node: int) -> Mapping[str, str]:
        """File of the bundle -> its copy on this node, made if need be. Empty where there is none: said."""
        try:
            found = await self._owner.provide(self, node)
        except OSError as exc:
            text = f"the weights have no copy on NUMA node {node}, workers there read them from elsewhere: {exc}"
            self._say(text)
            return {}
        if self._is_closed:  # meanwhile
            self._owner.release(self)
        return found

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes that are copied, by node."""
        return self._owner.sizes(self)

    def close(self) -> None:
        """Its workers are gone."""
        self._is_closed = True
        self._owner.release(self)


def _copied(path: Path, cpus: Collection[int]) -> int:
    """A memory file with the bytes of this one -> its descriptor. By default pages are of the node that writes them."""
    fd = os.memfd_create(MEMORY_FILE, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    before = os.sched_getaffinity(0)  # of this thread
    try:
        os.sched_setaffinity(0, cpus)
        with path.open("rb") as file:
            at, size = 0, os.fstat(file.fileno()).st_size
            while at < size:
                if not (count := os.sendfile(fd, file.fileno(), at, size - at)):
                    raise OSError(f"{path.name} was cut short while it was copied")
                at += count
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    except BaseException:
        os.close(fd)
        raise
    finally:
        os.sched_setaffinity(0, before)
    return fd
