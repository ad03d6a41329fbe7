"""Weights on a machine with two NUMA nodes: a copy on each, mapped by the workers there, and gone with them.

The nodes are a recorded tree that gives each of two of this machine's CPUs a node of its own; workers, memory files and
mappings are real. Where the pages lie can only be told apart on a machine with two nodes.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nbserve.bundle.digests import file_digest
from nbserve.config import ModelConfig
from nbserve.gateway.batcher import QueueTotal
from nbserve.gateway.pool import node_weights
from nbserve.gateway.pool.memory import MEMORY_FILE
from nbserve.gateway.pool.supervisor import Worker
from nbserve.gateway.pool.topology import Core, Memory, Topology, read_topology
from nbserve.gateway.pool.zygote import Zygotes
from nbserve.gateway.registry import Registry
from nbserve.gateway.version import ModelVersion, Surroundings
from nbserve.wire.frames import Flag
from nbserve.wire.management import Event, RegisterRequest
from nbserve.wire.messages import RequestItem
from tests.unit.pool import trees

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="copies are memory files of Linux")

SOURCE = """
    import torch

    torch.manual_seed(0)
    net = torch.nn.Linear(1024, 1024)

    class H:
        def initialize(self, context):
            self.net = net
        def preprocess(self, rows):
            return [row.payload for row in rows]
        def inference(self, batch):
            with torch.no_grad():
                if "write" in batch:
                    self.net.weight[:256] += 1
                return [[VERSION, float(self.net.weight.double().sum())] for _ in batch]
"""


@pytest.fixture
def two_nodes(tmp_path: Path) -> Topology:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) == 1:  # it is the CPU of both then
        return Topology(tuple(Core(cpus[0], node, 0, node, node) for node in range(2)))
    for node, cpu in enumerate((cpus[0], cpus[-1])):
        trees.core(tmp_path, [cpu], core_id=cpu, package=node, node=node)
        trees.caches(tmp_path, [cpu], [[cpu]])
    trees.write(tmp_path, f"{trees.CPU}/online", trees.cpus((cpus[0], cpus[-1])))
    trees.process(tmp_path, trees.cpus((cpus[0], cpus[-1])))
    return read_topology(tmp_path)


@asynccontextmanager
async def registry_of(runtime: Path, topology: Topology, events: list[Event]) -> AsyncIterator[Registry]:
    zygotes = Zygotes(runtime)
    around = Surroundings(runtime, events.append, "http://here", QueueTotal(1 << 30), zygotes=zygotes)
    registry = Registry(around, topology, grace_s=5.0)
    try:
        yield registry
    finally:
        await registry.stop(5.0)
        await zygotes.close()
        assert memory_files() == [], "a copy is left"


async def serve(registry: Registry, bundle: Path, workers: int = 2) -> ModelVersion:
    config = ModelConfig(workers=workers, threads=1, proof="off", swap="blue-green")
    return await registry.register(RegisterRequest(url=str(bundle), model_name="net", config=config))


async def ask(entry: ModelVersion, worker: Worker, question: str) -> str:
    item = RequestItem("application/json", "r")
    probe = await entry.batcher.probe(worker, [item], [f'"{question}"'.encode()], Flag.WARMUP)
    return bytes(probe.bodies[0]).decode()


def workers_of(entry: ModelVersion) -> list[Worker]:
    assert entry.pool is not None
    return entry.pool.workers


def memory_files() -> list[str]:
    """Inodes of the copies that this process, which is the gateway here, has open."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            if MEMORY_FILE in os.readlink(f"/proc/self/fd/{fd}"):
                found.add(str(os.stat(f"/proc/self/fd/{fd}").st_ino))
        except FileNotFoundError:
            continue
    return sorted(found)


def mapped(worker: Worker, name: str) -> set[str]:
    """Inodes of the files with this in their path that a worker maps."""
    maps = Path(f"/proc/{worker.pid}/maps").read_text()
    return {line.split()[4] for line in maps.splitlines() if name in line}


def test_each_node_has_a_copy_and_its_workers_map_it(
    make_bundle: Callable[..., Path], short_tmp: Callable[[], Path], two_nodes: Topology
) -> None:
    bundle = make_bundle(SOURCE.replace("VERSION", "1"), name="net")
    [weights] = bundle.glob("weights/*.safetensors")
    before = file_digest(weights)

    async def main() -> None:
        async with registry_of(short_tmp(), two_nodes, []) as registry:
            entry = await serve(registry, bundle)
            one, other = workers_of(entry)
            assert (one.plan.node, other.plan.node) == (0, 1)
            assert mapped(one, MEMORY_FILE) | mapped(other, MEMORY_FILE) == set(memory_files())
            assert mapped(one, MEMORY_FILE) != mapped(other, MEMORY_FILE)
            assert [mapped(worker, ".safetensors") for worker in (one, other)] == [set(), set()]
            status = await registry.status(entry)
            assert status.weights_copies == {"0": weights.stat().st_size, "1": weights.stat().st_size}
            assert status.warnings == []
            answers = [await ask(entry, worker, "sum") for worker in (one, other)]
            assert answers[0] == answers[1]
            assert await ask(entry, other, "write") != answers[0]
            assert await ask(entry, one, "sum") == answers[0]
            written = [worker.overwritten_bytes() or 0 for worker in (one, other)]
            assert written[0] == 0
            assert 256 * 1024 * 4 <= written[1] <= 256 * 1024 * 4 + 2 * 4096

    asyncio.run(main())
    assert file_digest(weights) == before


def test_two_versions_with_the_same_weights_share_the_copies(
    make_bundle: Callable[..., Path], short_tmp: Callable[[], Path], two_nodes: Topology
) -> None:
    """And a worker that is started again finds its own."""
    bundles = [make_bundle(SOURCE.replace("VERSION", version), name="net") for version in "12"]

    async def main() -> None:
        async with registry_of(short_tmp(), two_nodes, []) as registry:
            old = await serve(registry, bundles[0])
            first = memory_files()
            entry = await serve(registry, bundles[1])
            assert old.task is not None
            await old.task  # it has gone
            assert memory_files() == first
            one, other = workers_of(entry)
            assert mapped(one, MEMORY_FILE) | mapped(other, MEMORY_FILE) == set(first)
            assert (await ask(entry, one, "sum")).startswith("[2,")
            restarts = other.restarts
            other.kill()
            async with asyncio.timeout(60):
                while other.restarts == restarts or other.state != "READY":  # noqa: ASYNC110 -- a process of its own
                    await asyncio.sleep(0.01)
            assert mapped(other, MEMORY_FILE) < set(first)
            assert memory_files() == first
            await registry.unregister("net")
            assert memory_files() == []

    asyncio.run(main())


def test_without_memory_for_it_the_file_serves_and_that_is_said(
    make_bundle: Callable[..., Path],
    short_tmp: Callable[[], Path],
    two_nodes: Topology,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(node_weights, "read_memory", lambda: Memory(8 << 30, 1 << 30, 0))
    bundle = make_bundle(SOURCE.replace("VERSION", "1"), name="net")

    async def main() -> None:
        events: list[Event] = []
        async with registry_of(short_tmp(), two_nodes, events) as registry:
            entry = await serve(registry, bundle)
            assert len({await ask(entry, worker, "sum") for worker in workers_of(entry)}) == 1
            assert all(
                mapped(worker, ".safetensors") and not mapped(worker, MEMORY_FILE) for worker in workers_of(entry)
            )
            status = await registry.status(entry)
            assert status.weights_copies == {}
            for node in (0, 1):
                said = rf"the weights have no copy on NUMA node {node}, .*: 0\.0 GB are needed for it, and 1\.1 GB"
                assert [text for text in status.warnings if re.match(said, text)]
                assert [event for event in events if event.kind == "gateway" and re.match(said, event.text)]
                assert re.search(said, caplog.text)

    asyncio.run(main())


def test_with_one_node_nothing_is_copied(
    make_bundle: Callable[..., Path], short_tmp: Callable[[], Path], two_nodes: Topology
) -> None:
    one_node = Topology(tuple(core._replace(node=0) for core in two_nodes.cores))

    async def main() -> None:
        async with registry_of(short_tmp(), one_node, []) as registry:
            entry = await serve(registry, make_bundle(SOURCE.replace("VERSION", "1"), name="net"), workers=1)
            [worker] = workers_of(entry)
            assert mapped(worker, ".safetensors")
            assert memory_files() == []
            assert (await registry.status(entry)).weights_copies == {}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("needed_bytes", "available_bytes", "fits"),
    [(0, 1 << 30, True), (1, 1 << 30, False), (4 << 30, 5 << 30, True), (4 << 30, (5 << 30) - 1, False)],
)
def test_when_there_is_memory_for_a_copy(needed_bytes: int, available_bytes: int, *, fits: bool) -> None:
    assert (node_weights.why_no_copy(needed_bytes, available_bytes) == "") is fits


def test_a_file_that_is_cut_short_leaves_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w").write_bytes(bytes(1 << 20))
    monkeypatch.setattr(os, "sendfile", lambda *_: 0)
    before = os.sched_getaffinity(0)
    with pytest.raises(OSError, match="cut short"):
        node_weights._copied(tmp_path / "w", [min(before)])
    assert memory_files() == []
    assert os.sched_getaffinity(0) == before


def test_a_copy_is_what_the_file_is_and_cannot_be_changed(tmp_path: Path) -> None:
    content = os.urandom((1 << 20) + 7)
    (tmp_path / "w").write_bytes(content)
    before = os.sched_getaffinity(0)
    fd = node_weights._copied(tmp_path / "w", [max(before)])
    try:
        assert Path(f"/proc/self/fd/{fd}").read_bytes() == content
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        assert os.sched_getaffinity(0) == before
    finally:
        os.close(fd)
