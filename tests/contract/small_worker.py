"""A worker without Jupyter, written from docs/worker-protocol.md alone; test_worker_protocol.py runs it."""

import json
import mmap
import os
import runpy
import signal
import socket
import struct
from pathlib import Path

import msgspec

HELLO, READY, FAILED, BATCH, ANSWER, DRAIN, LOAD = 1, 2, 3, 4, 5, 9, 11
HEADER = struct.Struct("<2sBBHHQIIQ")
stream = socket.socket(fileno=int(os.environ["NBSERVE_DATA_FD"]))
page = mmap.mmap(int(os.environ["NBSERVE_STATUS_FD"]), 64)
frames = stream.makefile("rb")
in_hand = 0  # the batch whose user code runs


def send(kind, meta, batch_id=0, bodies=()):
    meta = msgspec.msgpack.encode(meta)
    head = HEADER.pack(b"nb", 1, kind, 0, 0, batch_id, len(bodies), len(meta), sum(map(len, bodies)))
    stream.sendall(head + struct.pack(f"<{len(bodies)}I", *map(len, bodies)) + meta + b"".join(bodies))


def on_sigint(signum, frame):
    global in_hand
    if in_hand and struct.unpack_from("<Q", page, 32)[0] == in_hand:
        in_hand = 0  # once: a second signal may come while the answer is made
        raise KeyboardInterrupt


def answer(predict, body):
    try:
        return 200, json.dumps(predict([json.loads(body)])[0]).encode(), None
    except json.JSONDecodeError as exc:
        return 400, b"", {"type": "BadRequest", "message": f"the body is not valid JSON: {exc}"}
    except KeyboardInterrupt:
        return 504, b"", {"type": "ResponseTimeout", "message": "the response time was over"}
    except Exception as exc:
        return 500, b"", {"type": type(exc).__name__, "message": str(exc)}


os.sched_setaffinity(0, {int(core) for core in os.environ["NBSERVE_CORES"].split(",")})
signal.signal(signal.SIGINT, on_sigint)
send(HELLO, {"versions": [1], "software": "small", "pid": os.getpid()})
while len(head := frames.read(HEADER.size)) == HEADER.size:
    _, version, kind, flags, _, batch_id, count, meta_bytes, body_bytes = HEADER.unpack(head)
    lengths = struct.unpack(f"<{count}I", frames.read(4 * count))
    meta = frames.read(meta_bytes)
    bodies = [frames.read(length) for length in lengths]
    if kind == LOAD:
        bundle = Path(msgspec.msgpack.decode(meta)["bundle"])
        name = json.loads((bundle / "manifest.json").read_text())["handler"]["name"]
        try:
            predict = runpy.run_path(str(bundle / "handler.py"))[name]
            send(READY, {"pid": os.getpid(), "cores": [*os.sched_getaffinity(0)], "threads": 1}, batch_id)
        except Exception as exc:
            send(FAILED, {"type": type(exc).__name__, "message": str(exc), "stage": "import"}, batch_id)
    elif kind == BATCH:
        struct.pack_into("<QII", page, 0, batch_id, 7, 0)  # in inference
        in_hand = batch_id
        done = [answer(predict, body) for body in bodies]
        in_hand = 0
        items = [
            [place, "error" if why else "whole", status, "application/json", why]
            for place, (status, _, why) in enumerate(done)
        ]
        send(ANSWER, {"items": items, "timings": [0.0] * 5}, batch_id, [body for _, body, _ in done])
        struct.pack_into("<QII", page, 0, 0, 0, 0)
    elif kind == DRAIN:
        break
