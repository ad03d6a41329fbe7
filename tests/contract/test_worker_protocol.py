"""What docs/worker-protocol.md promises, held against two workers: ours, a Jupyter kernel, and a small one that was
written from that page alone. The test plays the gateway, with nothing but a socket and the shared page.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.connect import write_connection_file

from nbserve.errors import EndOfFile, ErrorInfo
from nbserve.wire.arena import Arena
from nbserve.wire.frames import Flag, Frame, Kind, decode_meta, encode_meta
from nbserve.wire.messages import AnswerMeta, Hello, Load, Ready, RequestItem
from nbserve.wire.profile import Profile, Profiled
from nbserve.wire.statuspage import StatusPage
from nbserve.worker.stream import DataStream
from tests.contract.conftest import MakeBundle

HANDLER = """
    import os, time

    def predict(batch):
        out = []
        for value in batch:
            if value == "raise":
                raise ValueError("no such thing")
            if str(value).startswith("sleep"):
                open(value.split()[1], "w").close()
                time.sleep(60)
            if value == "die":
                os._exit(7)
            out.append({"twice": value * 2})
        return out
"""
LOAD_ID = 1 << 63
JSON = "application/json"
LIMIT_S = 60.0
"""For a worker's start on a busy machine."""


class Gateway:
    """The gateway's ends of one worker."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.folder = folder
        ours, theirs = socket.socketpair()
        ours.settimeout(LIMIT_S)
        self.stream = DataStream(ours)
        self.page = StatusPage.create()
        env = os.environ | {
            "NBSERVE_DATA_FD": str(theirs.fileno()),
            "NBSERVE_STATUS_FD": str(self.page.fd),
            "NBSERVE_CORES": str(min(os.sched_getaffinity(0))),
            "IPYTHONDIR": str(folder / "ipython"),
        }
        fds = (theirs.fileno(), self.page.fd)
        log = (folder / "log").open("wb")
        with theirs, log:
            self.process = subprocess.Popen(command, env=env, pass_fds=fds, stdout=log, stderr=log, cwd=folder)

    def send(self, kind: Kind, meta: Any = None, batch_id: int = 0, bodies: list[bytes] | None = None) -> None:
        encoded = b"" if meta is None else encode_meta(meta)
        self.stream.write(Frame(kind, Flag.NONE, batch_id, encoded, bodies or []))

    def hello(self) -> Hello:
        frame = self.stream.read()
        assert frame.kind is Kind.HELLO
        return decode_meta(frame.meta, Hello)

    def load(self, bundle: Path) -> Ready:
        hello = self.hello()
        self.takes_memfd, self.takes_profile = hello.memfd, hello.profile
        self.send(Kind.HELLO, Hello([1], "test", os.getpid()))
        cores = [min(os.sched_getaffinity(0))]
        self.send(Kind.LOAD, Load(str(bundle), "m", "1", 0, 1, cores), LOAD_ID)
        frame = self.stream.read()
        assert (frame.kind, frame.batch_id) == (Kind.READY, LOAD_ID)
        return decode_meta(frame.meta, Ready)

    def batch(self, batch_id: int, *bodies: bytes) -> None:
        items = [RequestItem(JSON, f"r{batch_id}-{place}") for place in range(len(bodies))]
        self.send(Kind.BATCH, items, batch_id, list(bodies))

    def answer(self, batch_id: int) -> list[tuple[int, bytes, ErrorInfo | None]]:
        """(status, body, error) in the order of the batch."""
        frame = self.stream.read()
        assert (frame.kind, frame.batch_id) == (Kind.ANSWER, batch_id)
        meta = decode_meta(frame.meta, AnswerMeta)
        assert meta.last
        found = {
            item.item: (item.status, bytes(body), item.error)
            for item, body in zip(meta.items, frame.bodies, strict=True)
        }
        return [found[place] for place in range(len(found))]

    def ends(self) -> int:
        """The worker's exit status, after the end of its stream."""
        with pytest.raises((EndOfFile, ConnectionResetError)):  # reset: it left something unread
            self.stream.read()
        return self.process.wait(LIMIT_S)

    def close(self) -> None:
        self.stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        self.page.close()


@pytest.fixture(params=["ours", "small"])
def gateway(request: pytest.FixtureRequest, short_tmp: Callable[[], Path]) -> Iterator[Gateway]:
    folder = short_tmp()
    if request.param == "ours":
        path, _ = write_connection_file(str(folder / "k.json"), transport="ipc", ip=str(folder / "k"))
        command = [sys.executable, "-m", "nbserve.worker", "-f", path, "--HistoryManager.enabled=False"]
    else:
        command = [sys.executable, str(Path(__file__).with_name("small_worker.py"))]
    made = Gateway(command, folder)
    yield made
    made.close()


@pytest.fixture
def console(gateway: Gateway) -> Iterator[BlockingKernelClient]:
    """Somebody beside the gateway, at the worker's shell."""
    client = BlockingKernelClient(connection_file=str(gateway.folder / "k.json"))
    client.load_connection_file()
    client.start_channels()
    yield client
    client.stop_channels()


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Path:
    return make_bundle(HANDLER, handler="predict")


def test_a_batch_is_answered_item_by_item(gateway: Gateway, bundle: Path) -> None:
    ready = gateway.load(bundle)
    assert ready.pid == gateway.process.pid
    assert ready.cores == [min(os.sched_getaffinity(0))]
    gateway.batch(1, b"1", b"[2]", b'"x"')
    answers = gateway.answer(1)
    assert [body.replace(b" ", b"") for _, body, _ in answers] == [
        b'{"twice":2}',
        b'{"twice":[2,2]}',
        b'{"twice":"xx"}',
    ]


def test_a_bad_item_costs_one_error(gateway: Gateway, bundle: Path) -> None:
    gateway.load(bundle)
    gateway.batch(1, b"1", b"{", b'"raise"', b"2")
    good, malformed, raised, also_good = gateway.answer(1)
    assert (good[0], also_good[0]) == (200, 200)
    assert malformed[0] == 400
    assert malformed[1:] == (b"", malformed[2])
    assert malformed[2] is not None
    assert "not valid JSON" in malformed[2].message
    assert raised[2] is not None
    assert (raised[0], raised[2].type, raised[2].message) == (500, "ValueError", "no such thing")


@pytest.mark.parametrize("gateway", ["ours"], indirect=True)
def test_a_console_gets_its_turn_among_batches_that_come_closely(
    gateway: Gateway, bundle: Path, console: BlockingKernelClient
) -> None:
    """They are waited for where they are read, past the kernel's loop; not for ever."""
    gateway.load(bundle)
    seen = []
    for number in range(1, 5000):
        gateway.batch(number, b"1")
        if number == 500:
            console.execute("1 + 1")
        while (frame := gateway.stream.read()).kind is not Kind.ANSWER:
            seen.append(frame.kind)
        if len(seen) == 2:
            break
    assert seen == [Kind.PAUSED, Kind.RESUMED]


def test_batches_sent_ahead_are_answered_in_order(gateway: Gateway, bundle: Path) -> None:
    gateway.load(bundle)
    for batch_id in range(1, 6):
        gateway.batch(batch_id, str(batch_id).encode())
    for batch_id in range(1, 6):
        [(status, body, _)] = gateway.answer(batch_id)
        assert (status, body.replace(b" ", b"")) == (200, b'{"twice":%d}' % (2 * batch_id))


def test_an_empty_batch_is_a_sign_of_life(gateway: Gateway, bundle: Path) -> None:
    gateway.load(bundle)
    gateway.send(Kind.BATCH, [], 9)
    assert gateway.answer(9) == []


def test_a_large_batch_arrives_whole(gateway: Gateway, bundle: Path) -> None:
    gateway.load(bundle)
    bodies = [b'"%s"' % (bytes([97 + n]) * 400_000) for n in range(4)]
    gateway.batch(1, *bodies)
    for (status, body, _), sent in zip(gateway.answer(1), bodies, strict=True):
        assert (status, len(body.replace(b" ", b""))) == (200, 800_000 + len(b'{"twice":""}'))
        assert sent[1:9] in body


@pytest.mark.parametrize("gateway", ["ours"], indirect=True)
@pytest.mark.parametrize(
    "source", [HANDLER, HANDLER.replace("def predict", "async def predict")], ids=["plain", "async"]
)
def test_a_large_batch_through_the_arena(gateway: Gateway, make_bundle: MakeBundle, source: str) -> None:
    """RELEASE comes when nothing looks at the bodies any more, whatever the handler keeps."""
    gateway.load(make_bundle(source, handler="predict"))
    assert gateway.takes_memfd
    arena = Arena(gateway.page.fd)
    for batch_id in (1, 2):
        bodies = [b'"%s"' % (bytes([97 + batch_id + n]) * 300_000) for n in range(3)]
        place = arena.lay(batch_id, bodies)
        assert place == 0  # the first one's place is free again
        items = encode_meta([RequestItem(JSON, "r")] * 3)
        gateway.stream.write(Frame(Kind.BATCH, Flag.MEMFD, batch_id, items, bodies, place))
        for (status, body, _), sent in zip(gateway.answer(batch_id), bodies, strict=True):
            assert (status, body) == (200, b'{"twice":"%s"}' % (2 * sent[1:-1]))
        frame = gateway.stream.read()
        assert (frame.kind, frame.batch_id) == (Kind.RELEASE, batch_id)
        arena.release(batch_id)
    arena.close()


def test_a_worker_that_says_so_is_profiled(gateway: Gateway, bundle: Path, tmp_path: Path) -> None:
    gateway.load(bundle)
    if not gateway.takes_profile:  # the small one: a worker may do without
        return
    for asked, stopped in ((2, False), (9, True)):
        gateway.send(Kind.PROFILE, Profile("p", str(tmp_path / "t.json.gz"), batches=asked))
        assert [gateway.stream.read().kind, gateway.stream.read().kind] == [Kind.PAUSED, Kind.RESUMED]
        for batch_id in (1, 2):
            gateway.batch(batch_id, b"1", b"2")
            assert len(gateway.answer(batch_id)) == 2
        if stopped:
            gateway.send(Kind.PROFILE, Profile("p", stop=True))
        frame = gateway.stream.read()
        assert frame.kind is Kind.PROFILED
        profiled = decode_meta(frame.meta, Profiled)
        assert (profiled.id, profiled.error) == ("p", "")
        assert [(batch.batch_id, batch.items, batch.request_bytes) for batch in profiled.batches] == [
            (1, 2, 2),
            (2, 2, 2),
        ]
        stages = ["decode", "preprocess", "inference", "postprocess", "encode"]
        assert [stage.name for stage in profiled.batches[0].stages] == stages


def test_a_bundle_that_cannot_be_loaded_is_said(gateway: Gateway, make_bundle: MakeBundle) -> None:
    broken = make_bundle(HANDLER, handler="predict")
    (broken / "handler.py").write_text("import no_such_module_anywhere\n")
    gateway.hello()
    gateway.send(Kind.HELLO, Hello([1], "test", os.getpid()))
    gateway.send(Kind.LOAD, Load(str(broken), "m", "1", 0, 1, [0]), LOAD_ID)
    frame = gateway.stream.read()
    assert (frame.kind, frame.batch_id) == (Kind.FAILED, LOAD_ID)
    assert "no_such_module_anywhere" in decode_meta(frame.meta, ErrorInfo).message


def test_the_page_names_the_batch_in_hand_and_user_code_can_be_ended(
    gateway: Gateway, bundle: Path, tmp_path: Path
) -> None:
    gateway.load(bundle)
    gateway.batch(5, b'"sleep %s"' % str(tmp_path / "asleep").encode())
    _until((tmp_path / "asleep").exists)
    assert gateway.page.progress[:2] == (5, "inference")
    gateway.page.cancelled = 4  # another batch: the signal must not harm this one
    os.kill(gateway.process.pid, signal.SIGINT)
    gateway.page.cancelled = 5
    gateway.send(Kind.CANCEL, None, 5)
    os.kill(gateway.process.pid, signal.SIGINT)
    [(status, _, error)] = gateway.answer(5)
    assert error is not None
    assert (status, error.type) == (504, "ResponseTimeout")
    _until(lambda: gateway.page.progress.batch_id == 0)
    os.kill(gateway.process.pid, signal.SIGINT)  # late: nothing is in hand
    gateway.batch(6, b"3")
    assert gateway.answer(6)[0][0] == 200


def test_a_death_is_the_end_of_the_stream_and_the_page_tells(gateway: Gateway, bundle: Path) -> None:
    gateway.load(bundle)
    gateway.batch(3, b'"die"')
    with contextlib.suppress(BrokenPipeError):  # where it has died already
        gateway.batch(4, b"1")
    assert gateway.ends() == 7
    assert gateway.page.progress.batch_id == 3


@pytest.mark.parametrize("how", ["drain", "end of file"])
def test_it_leaves_when_told(gateway: Gateway, bundle: Path, how: str) -> None:
    gateway.load(bundle)
    gateway.batch(1, b"1")
    if how == "drain":
        gateway.send(Kind.DRAIN)
        assert gateway.answer(1)[0][0] == 200
        assert gateway.ends() == 0
    else:
        assert gateway.answer(1)[0][0] == 200
        gateway.stream.sock.shutdown(socket.SHUT_RDWR)
        assert gateway.process.wait(LIMIT_S) == 0


def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
