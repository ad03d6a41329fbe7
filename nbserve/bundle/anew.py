"""Things of one process that each worker makes anew: locks and what is built on them, thread-local data, pools of
threads, context variables. Both directions side by side, as in `forms.py`.

Called by `encoder.py` and `decoder.py`. A lock that is free, or a pool, means the same in any process; one that
somebody holds or waits for in the notebook does not, and is refused. Condition, Event, Semaphore, Barrier and the
queues of `queue` are plain objects around a lock: their state (a count, a flag, items) goes along as any object's.
"""

from __future__ import annotations

import contextvars
import queue
import re
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from nbserve.bundle.forms import Node, Reader, Unencodable, Writer

__all__ = ["READERS", "write"]

_LOCKS: dict[type, str] = {type(threading.Lock()): "lock", type(threading.RLock()): "rlock"}
_COUNTED_PREFIX = re.compile(r"ThreadPoolExecutor-\d+")
"""What a pool without a name of its own is called: which number it has is chance."""
_RUNS = (threading.Thread, subprocess.Popen)


def write(obj: Any, path: str, writer: Writer) -> Node | None:
    """The form of such a thing; None for everything else. Raises Unencodable where the notebook is using it."""
    if type(obj) in _LOCKS:
        if repr(obj).startswith("<locked"):  # an RLock has no other way to say so before Python 3.14
            raise _used(obj, path, "it is held by somebody in the notebook", "release it before you serve the cell")
        return {"$": _LOCKS[type(obj)]}
    if isinstance(obj, threading.Condition) and getattr(obj, "_waiters", None):
        raise _used(obj, path, _WAITED, _START)
    if isinstance(obj, threading.BoundedSemaphore) and obj._value != obj._initial_value:  # type: ignore[attr-defined]
        raise _used(obj, path, "somebody in the notebook has acquired it", "release it before you serve the cell")
    if isinstance(obj, _RUNS) or (isinstance(obj, Future) and not obj.done()):
        raise _used(obj, path, f"it is a {type(obj).__name__}, which runs in the notebook", _START)
    if type(obj) is threading.local:
        return {"$": "local", "v": writer.part(dict(vars(obj)), path)}
    if type(obj) is ThreadPoolExecutor:
        return _pool(obj, path, writer)
    if type(obj) is queue.SimpleQueue:
        if not obj.empty():
            raise _used(obj, path, "it is a SimpleQueue, whose items cannot be seen", "use a queue.Queue")
        return {"$": "simple queue"}
    if type(obj) is contextvars.ContextVar:
        return _variable(obj, path, writer)
    return None


_WAITED = "a thread of the notebook waits for it, which workers do not have"
_START = "start it in `initialize`: each worker is a process and needs its own"


def _used(obj: Any, path: str, reason: str, mend: str) -> Unencodable:
    return Unencodable(obj, path, reason, refuse=True, mend=mend)


def _pool(obj: Any, path: str, writer: Writer) -> Node | None:
    if obj._shutdown:
        raise _used(obj, path, "it is a ThreadPoolExecutor that was shut down", "make a new one, without `with`")
    if not hasattr(obj, "_initializer"):  # Python 3.14 keeps it elsewhere
        return None
    prefix = "" if _COUNTED_PREFIX.fullmatch(obj._thread_name_prefix) else obj._thread_name_prefix
    return {
        "$": "thread pool",
        "threads": obj._max_workers,
        "prefix": prefix,
        "initializer": writer.part(obj._initializer, f"{path}.initializer"),
        "args": [writer.part(arg, f"{path}.initargs[{index}]") for index, arg in enumerate(obj._initargs)],
    }


def _variable(obj: Any, path: str, writer: Writer) -> Node:
    if obj in contextvars.copy_context():
        reason = f"the context variable {obj.name} is set in the notebook, and handlers have a context of their own"
        raise _used(obj, path, reason, "set it in the handler, or give it a default")
    node: Node = {"$": "context variable", "name": obj.name}
    try:
        default = contextvars.Context().run(obj.get)
    except LookupError:
        return node
    return node | {"default": writer.part(default, path)}


def _read_pool(reader: Reader, doc: Node) -> Any:
    initializer = reader.part(doc["initializer"])
    args = tuple(reader.part(arg) for arg in doc["args"])
    return ThreadPoolExecutor(doc["threads"], doc["prefix"], initializer, args)


def _read_local(reader: Reader, doc: Node) -> Any:
    made = threading.local()
    vars(made).update(reader.part(doc["v"]))
    return made


def _read_variable(reader: Reader, doc: Node) -> Any:
    if "default" not in doc:
        return contextvars.ContextVar(doc["name"])
    default = reader.part(doc["default"])  # the notebook's own, as it gave it
    return contextvars.ContextVar(doc["name"], default=default)


READERS: dict[str, Callable[[Any, Node], Any]] = {
    "lock": lambda reader, doc: threading.Lock(),
    "rlock": lambda reader, doc: threading.RLock(),
    "local": _read_local,
    "thread pool": _read_pool,
    "simple queue": lambda reader, doc: queue.SimpleQueue(),
    "context variable": _read_variable,
}
