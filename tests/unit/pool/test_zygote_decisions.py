"""When workers are forked and when not (pure), what a bundle is said to import, and packets between the two sides."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import pytest

from nbserve.bundle import Bundle
from nbserve.bundle.folder import Content, write_bundle
from nbserve.bundle.imports import imported_names
from nbserve.bundle.manifest import HandlerRecord, Manifest, Provenance, ValueRecord
from nbserve.config import ModelConfig
from nbserve.errors import EndOfFile, WireError
from nbserve.gateway.pool.forked import UNKNOWN_EXIT, ForkedProcess
from nbserve.gateway.pool.standby import is_worth_it
from nbserve.gateway.pool.topology import Memory
from nbserve.gateway.pool.zygote import MIN_AVAILABLE_BYTES, why_spawn
from nbserve.packets import MAX_PACKET_BYTES, receive_packet, send_packet, socket_pair
from nbserve.wire.zygote import Exited, Fork, Refused, changes, decode, encode
from nbserve.worker.zygote import _distributions, _import

PLENTY = Memory(total_bytes=8 << 30, available_bytes=4 << 30, oom_kills=0)
SCARCE = PLENTY._replace(available_bytes=MIN_AVAILABLE_BYTES - 1)


@pytest.mark.parametrize(
    ("start", "platform", "memory", "has_pidfd", "reason"),
    [
        ("auto", "linux", PLENTY, True, ""),
        ("fork", "linux", PLENTY, True, ""),
        ("spawn", "linux", PLENTY, True, "asked for"),
        ("auto", "darwin", PLENTY, True, "forking needs Linux 5.3 or newer"),
        ("fork", "linux", PLENTY, False, "forking needs Linux 5.3 or newer"),
        ("auto", "linux", SCARCE, True, "only 511 MB of memory are free"),
        ("fork", "linux", SCARCE, True, ""),
    ],
)
def test_when_workers_are_spawned(start: str, platform: str, memory: Memory, has_pidfd: bool, reason: str) -> None:
    config = ModelConfig(start=start)  # type: ignore[arg-type]
    assert why_spawn(config, platform, memory, has_pidfd=has_pidfd) == reason


@pytest.mark.parametrize(
    ("workers", "memory", "worth_it"),
    [
        (0, PLENTY, False),
        (1, PLENTY, True),
        (2, PLENTY, True),
        (3, PLENTY, False),
        (8, PLENTY, False),
        (1, SCARCE, False),
    ],
)
def test_when_a_worker_is_kept_waiting(workers: int, memory: Memory, *, worth_it: bool) -> None:
    assert is_worth_it(workers, memory) is worth_it


def test_an_environment_becomes_the_other_by_its_changes() -> None:
    before, after = {"A": "1", "B": "2", "C": "3"}, {"A": "1", "B": "9", "D": "4"}
    assert changes(before, after) == {"B": "9", "D": "4", "C": None}
    assert changes(after, after) == {}


def test_what_a_bundle_imports(tmp_path: Path) -> None:
    """From the source's top level and from the classes in values; nothing that Python or nbserve bring along."""
    source = """
import json, torch.nn
import numpy as np
from sklearn.linear_model import LinearRegression, Ridge
from nbserve import Handler
from . import sibling
from os.path import *
def lazy():
    import pandas
"""
    doc = (
        '{"$": "object", "class": "transformers.models.bert:BertModel", "of": ["handler:Mine", "it is: text", "a:b c"]}'
    )
    files = {"handler.py": source, "data/model.json": doc, "data/pickled.pkl": '"evil:Thing"'}
    manifest = Manifest(
        name="m",
        handler=HandlerRecord("H", "class"),
        python="3.11",
        values={
            "model": ValueRecord("structure", "x", ["data/model.json"]),
            "pickled": ValueRecord("pickle", "x", ["data/pickled.pkl"]),
        },
    )
    content = Content({name: partial(iter, [text.encode()]) for name, text in files.items()}, {})
    bundle = write_bundle(tmp_path, manifest, content, Provenance(), None)
    assert imported_names(Bundle.open(bundle.path)) == [
        "torch.nn",
        "numpy",
        "sklearn.linear_model:LinearRegression",
        "sklearn.linear_model:Ridge",
        "transformers.models.bert:BertModel",
        "a:b",
    ]


def test_only_what_the_requirements_install_is_imported() -> None:
    there = dict(_distributions(["msgspec==1.0", "not-installed==2.0"]))
    assert "msgspec" in there
    assert _import("msgspec.json:encode", there) == ""
    assert _import("click", there) == "not of a distribution that the bundle names"
    assert _import("msgspec.nowhere", there).startswith("ModuleNotFoundError")
    assert _import("msgspec", {"msgspec": "/elsewhere"}) == "not installed as such: its source may change"


def test_packets_carry_messages_and_descriptors() -> None:
    ours, theirs = socket_pair()
    with ours, theirs:
        read, write = os.pipe()
        send_packet(ours, encode(Fork(1, ["-f", "x"], {"A": "b", "C": None}, "/")), [write])
        send_packet(ours, encode(Exited(5, -9)))
        os.close(write)
        packet, fds = receive_packet(theirs)
        assert decode(packet) == Fork(1, ["-f", "x"], {"A": "b", "C": None}, "/")
        os.write(fds[0], b"through")
        assert os.read(read, 10) == b"through"
        assert not os.get_inheritable(fds[0])
        assert decode(receive_packet(theirs)[0]) == Exited(5, -9)
        for fd in (read, *fds):
            os.close(fd)
        with pytest.raises(WireError):
            send_packet(ours, b"x" * (MAX_PACKET_BYTES + 1))
        send_packet(ours, b"x" * MAX_PACKET_BYTES)
        assert len(receive_packet(theirs)[0]) == MAX_PACKET_BYTES
        ours.close()
        with pytest.raises(EndOfFile):
            receive_packet(theirs)


@pytest.mark.parametrize("packet", [b"", b"{}", b'{"type":"Nobody"}', b"\x80\x04}", encode(Refused(0, "x"))[:-1]])
def test_garbage_is_no_message(packet: bytes) -> None:
    with pytest.raises(WireError):
        decode(packet)


@pytest.mark.skipif(sys.platform != "linux", reason="pidfds are Linux's")
@pytest.mark.parametrize(("zygote_lives", "code"), [(True, 7), (False, UNKNOWN_EXIT)])
def test_a_forked_process_looks_like_popen(zygote_lives: bool, code: int) -> None:
    """Its end is known by the pidfd at once, its code when the zygote says it, or never where that has died."""
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    reports: list[int] = []
    process = ForkedProcess(pid, os.pidfd_open(pid), lambda: process.ended(reports[0]) if reports else None)
    os.waitpid(pid, 0)
    if zygote_lives:
        assert process.poll() is None
        reports.append(7)
    else:
        process.zygote_died()
    assert process.wait(10) == process.poll() == process.returncode == code
    process.kill()  # nobody is hit
