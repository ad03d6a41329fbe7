"""The handler that the faults happen to, as a bundle: it works, fails or dies as each payload (or its version) asks.

Every payload id is noted in a file when a batch with it begins in `inference`, and again when its answer leaves
`postprocess`: so it is known what was begun twice and what was completed twice. Used by the rows.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from nbserve.bundle import Sample
from nbserve.bundle.folder import Content, write_bundle
from nbserve.bundle.manifest import HandlerRecord, Manifest, Provenance

__all__ = ["BUNDLE", "LOAD_FAULTS", "Executions", "make_bundle"]

BUNDLE = "faulty"
LOAD_FAULTS = ("initialize", "proof", "warmup", "exit")
"""How a version can fail before it takes traffic: raises in `initialize`; answers the sample wrongly; raises in the
warm-up batches that follow the proof; exits in `initialize`."""

SOURCE = '''\
import ctypes
import os
import resource
import time

VERSION = {version}  # {tag}
FAULT = {fault!r}
INITIALIZE_S, BATCH_S, ITEM_S = {initialize_s}, {batch_s}, {item_s}
NOTES = os.open({notes!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(what, ids):
    os.write(NOTES, "".join(f"{{what}} {{one}}\\n" for one in ids).encode())  # one write: appended as a whole


def eat_memory():
    """MemoryError, without taking the memory: the address space is limited for the attempt."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), hard))
    try:
        return bytearray(8 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def loop_forever():
    while True:
        pass


class Faulty:
    def initialize(self, context):
        self.batches = 0
        time.sleep(INITIALIZE_S)
        if FAULT == "initialize":
            raise RuntimeError("this version fails in initialize")
        if FAULT == "exit":
            os._exit(7)

    def preprocess(self, rows):
        payloads = [row.payload for row in rows]
        for payload in payloads:
            if payload["do"] == "preprocess":
                raise ValueError(f"bad item {{payload['id']}} in preprocess")
        return payloads

    def inference(self, payloads):
        self.batches += 1
        if FAULT == "warmup" and self.batches > 1:
            raise RuntimeError("this version fails from its second batch on")
        note("begun", [payload["id"] for payload in payloads])
        time.sleep(BATCH_S + ITEM_S * len(payloads) + sum(payload.get("sleep_s", 0) for payload in payloads))
        for payload in payloads:
            self.obey(payload["do"], payload["id"])
        return [self.answer(payload, len(payloads)) for payload in payloads]

    def obey(self, do, id):
        if do == "inference":
            raise ValueError(f"bad item {{id}} in inference")
        if do == "segfault":
            ctypes.string_at(0)
        if do == "exit":
            os._exit(3)
        if do == "memory":
            eat_memory()
        if do == "loop":
            loop_forever()

    def answer(self, payload, batch):
        answer = {{"id": payload["id"], "double": 2 * payload["x"], "version": VERSION}}
        if payload["id"] != "sample":
            answer["batch"] = batch
        if payload["do"] == "encode":
            answer["bad item " + payload["id"]] = object()
        if payload["do"] == "big":
            answer["ballast"] = "x" * (4 << 20)
        return answer

    def postprocess(self, answers):
        note("completed", [answer["id"] for answer in answers])
        return answers
'''


def make_bundle(
    folder: Path,
    notes: Path,
    *,
    version: int = 1,
    tag: str = "",
    fault: str = "",
    initialize_s: float = 0.0,
    batch_s: float = 0.005,
    item_s: float = 0.0005,
) -> Path:
    """Write one; its answers carry `version`; another `tag` makes another bundle.

    fault: one of LOAD_FAULTS. Times are slept: the cores stay free.
    """
    source = SOURCE.format(
        version=version,
        tag=tag,
        fault=fault,
        initialize_s=initialize_s,
        batch_s=batch_s,
        item_s=item_s,
        notes=str(notes),
    )
    expected = {"id": "sample", "double": 41 if fault == "proof" else 42, "version": version}
    sample = Sample(
        content_type="application/json",
        body=json.dumps({"id": "sample", "x": 21, "do": ""}).encode(),
        expected_content_type="application/json",
        expected_body=json.dumps(expected).encode(),
    )
    manifest = Manifest(name=BUNDLE, handler=HandlerRecord("Faulty", "class"), python="3.11")
    content = Content({"handler.py": lambda: iter([source.encode()])}, {})
    return write_bundle(folder, manifest, content, Provenance(), sample).path


class Executions:
    """Reads the file of notes; each call of `twice` counts what was added since the last one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0

    def twice(self) -> tuple[int, int]:
        """(payloads begun more than once, payloads completed more than once)."""
        if not self.path.exists():
            return 0, 0
        with self.path.open() as file:
            file.seek(self._at)
            lines = file.read().splitlines()
            self._at = file.tell()
        counts = Counter(line for line in lines if not line.endswith(" sample"))
        twice = [line.split(" ")[0] for line, count in counts.items() if count > 1]
        return twice.count("begun"), twice.count("completed")
