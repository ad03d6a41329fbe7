"""Locks, pools and the like: made anew where nobody uses them, refused where somebody does."""

from __future__ import annotations

import asyncio
import contextvars
import json
import pkgutil
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nbserve.bundle.decoder import Decoder
from nbserve.bundle.encoder import Encoder, Shared, Unencodable
from nbserve.bundle.fingerprint import differences, fingerprint


def round_trip(obj: Any, folder: Path) -> Any:
    """Through JSON text."""
    doc = Encoder("x", Shared(), lambda _: None).encode(obj)
    return Decoder(folder, pkgutil.resolve_name).decode("x", json.loads(json.dumps(doc)))


def same(before: Any, after: Any) -> bool:
    """By the comparison that the first worker makes."""
    return not differences(fingerprint({"x": before}, {}), fingerprint({"x": after}, {}))


class Cache:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.ready = threading.Condition(self.lock)
        self.items = {"a": 1}


def test_a_lock_is_free_and_what_is_built_on_it_has_the_same_one(tmp_path: Path) -> None:
    cache = Cache()
    again = round_trip([cache, cache.lock], tmp_path)
    made, lock = again
    assert made.items == {"a": 1}
    assert made.lock is lock is not cache.lock
    with made.ready:
        made.ready.notify_all()
        assert repr(lock).startswith("<locked")
    assert same([cache, cache.lock], again)


def test_counts_flags_and_items_go_along(tmp_path: Path) -> None:
    event, semaphore, waiting = threading.Event(), threading.Semaphore(2), queue.PriorityQueue[int](5)
    event.set()
    for item in (3, 1, 2):
        waiting.put(item)
    value = [event, semaphore, waiting, threading.BoundedSemaphore(1), threading.Barrier(1), queue.SimpleQueue()]
    again = round_trip(value, tmp_path)
    assert same(value, again)
    assert again[0].wait(0)
    assert [again[1].acquire(blocking=False) for _ in range(3)] == [True, True, False]
    assert [again[2].get_nowait() for _ in range(3)] == [1, 2, 3]
    assert again[2].maxsize == 5
    assert again[3].acquire(blocking=False)
    assert again[4].wait() == 0
    again[5].put(7)
    assert again[5].get() == 7
    assert not same(value, again), "items that are gone are noticed"


def greet(name: str) -> None:
    started.append(name)


started: list[str] = []


def test_a_pool_has_as_many_threads_and_its_initializer(tmp_path: Path) -> None:
    pool = ThreadPoolExecutor(3, "mine", greet, ("hello",))
    counted = ThreadPoolExecutor(2)
    with pool, counted:
        list(pool.map(str, range(9)))
        started.clear()
        again, other = round_trip([pool, counted], tmp_path)
        with again, other:
            assert again.submit(lambda: threading.current_thread().name).result().startswith("mine")
            assert started[0] == "hello"
            assert (again._max_workers, other._max_workers) == (3, 2)
            assert same([pool, counted], [again, other])
            assert not same(pool, other)


def test_thread_local_data_is_what_this_thread_has(tmp_path: Path) -> None:
    local = threading.local()
    local.seen = ["a"]
    again = round_trip(local, tmp_path)
    assert again.seen == ["a"]
    assert same(local, again)
    again.seen.append("b")
    assert not same(local, again)
    found = []
    thread = threading.Thread(target=lambda: found.append(hasattr(again, "seen")))
    thread.start()
    thread.join()
    assert found == [False]


def test_context_variables_have_their_default(tmp_path: Path) -> None:
    plain: contextvars.ContextVar[str] = contextvars.ContextVar("plain")
    given: contextvars.ContextVar[str] = contextvars.ContextVar("given", default="-")
    again, other = round_trip([plain, given], tmp_path)
    assert (again.name, again.get("none"), other.get()) == ("plain", "none", "-")
    assert same([plain, given], [again, other])


def test_locks_of_asyncio_forget_the_loop(tmp_path: Path) -> None:
    semaphore = asyncio.Semaphore(1)

    async def wait() -> None:
        async with semaphore:
            await asyncio.sleep(0)

    async def crowd() -> None:
        await asyncio.gather(wait(), wait())

    asyncio.run(crowd())
    assert semaphore._loop is not None  # type: ignore[attr-defined]
    again = round_trip(semaphore, tmp_path)
    assert again._value == 1
    semaphore = again
    asyncio.run(crowd())  # contended in another loop


@contextmanager
def held(lock: Any) -> Iterator[Any]:
    with lock:
        yield lock


@contextmanager
def waited_for() -> Iterator[Any]:
    """A queue that a thread of this process takes from."""
    tasks: queue.Queue[int] = queue.Queue()
    asked = threading.Event()

    def take() -> None:
        asked.set()
        tasks.get()

    thread = threading.Thread(target=take)
    thread.start()
    asked.wait()
    while not tasks.not_empty._waiters:  # type: ignore[attr-defined]
        pass
    yield tasks
    tasks.put(1)
    thread.join()


@contextmanager
def acquired() -> Iterator[Any]:
    semaphore = threading.BoundedSemaphore(2)
    semaphore.acquire()
    yield semaphore


@contextmanager
def filled() -> Iterator[Any]:
    items: queue.SimpleQueue[int] = queue.SimpleQueue()
    items.put(1)
    yield items


@contextmanager
def shut() -> Iterator[Any]:
    with ThreadPoolExecutor(1) as pool:
        pass
    yield pool


@contextmanager
def variable() -> Iterator[Any]:
    one: contextvars.ContextVar[int] = contextvars.ContextVar("one")
    token = one.set(1)
    yield one
    one.reset(token)


@contextmanager
def process() -> Iterator[Any]:
    with subprocess.Popen([sys.executable, "-c", ""]) as running:
        yield running


@contextmanager
def pending() -> Iterator[Any]:
    yield Future()


USED: dict[str, tuple[Callable[[], Any], str]] = {
    "lock": (lambda: held(threading.Lock()), "held by somebody"),
    "rlock": (lambda: held(threading.RLock()), "held by somebody"),
    "queue": (waited_for, "a thread of the notebook waits for it"),
    "semaphore": (acquired, "has acquired it"),
    "simple queue": (filled, "cannot be seen"),
    "pool": (shut, "was shut down"),
    "variable": (variable, "one is set in the notebook"),
    "process": (process, "Popen, which runs in the notebook"),
    "future": (pending, "Future, which runs in the notebook"),
}


@pytest.mark.parametrize(("use", "reason"), USED.values(), ids=USED.keys())
def test_what_the_notebook_is_using_is_refused(use: Callable[[], Any], reason: str) -> None:
    with use() as obj, pytest.raises(Unencodable, match=reason) as caught:
        Encoder("x", Shared(), lambda _: None).encode({"inside": obj})
    assert caught.value.refuse
    assert caught.value.mend
    assert caught.value.path.startswith("['inside']")


def test_patterns_of_regex_are_compiled_again(tmp_path: Path) -> None:
    regex = pytest.importorskip("regex")
    value = [regex.compile(r"\L<names>\d", regex.I, names=["ann", "bob"]), regex.compile(rb"\w+")]
    again = round_trip(value, tmp_path)
    assert again[0].fullmatch("BOB1")
    assert not again[0].fullmatch("eve1")
    assert again[1].pattern == rb"\w+"
    assert same(value, again)
    assert not same(value[0], regex.compile(r"\L<names>\d", regex.I, names=["ann", "eve"]))
