"""Samples of py-spy: whose time a stack is, what shares come of it, and a real process sampled for a second."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbserve
from nbserve.errors import UsageError
from nbserve.measure.system_profile import (
    Stack,
    Track,
    find_py_spy,
    part_of,
    read_tracks,
    start_sampling,
    summed_up,
    why_not,
)

OURS = Path(nbserve.__file__).parent


@pytest.mark.parametrize(
    ("frame", "part"),
    [
        (f"run ({OURS}/pipeline.py:115)", "framework"),
        ("feed (/v/lib/python3.11/site-packages/tornado/iostream.py:3)", "framework"),
        ("_run_once (/usr/lib/python3.11/asyncio/base_events.py:9)", "framework"),
        ("inference (/home/me/nbserve/bundles/x/handler.py:7)", "python"),
        ("forward (/v/lib/python3.11/site-packages/torch/nn/modules/linear.py:1)", "python"),
        ("predict (<cell 4>:3)", "python"),
        ("mkl_blas_avx2_sgemm_kernel (/v/lib/libmkl_avx2.so.2)", "native"),
        ("0x7f12 (/usr/lib/libc.so.6)", "native"),
        ("no brackets at all", "native"),
        ("clock_nanosleep (/usr/lib/libc.so.6)", "idle"),
        ("epoll_wait (/usr/lib/libc.so.6)", "idle"),
        ("epoll_pwait (/usr/lib/libc.so.6)", "idle"),
        ("PyThread_acquire_lock_timed (python3.11)", "idle"),
        ("select (/usr/lib/python3.11/selectors.py:468)", "idle"),
        ("pthread_cond_timedwait (/usr/lib/libc.so.6)", "idle"),
        ("selected (/home/me/x.py:1)", "python"),
    ],
)
def test_whose_time_a_sample_is(frame: str, part: str) -> None:
    assert part_of(["<module> (/x/main.py:1)", frame]) == part


def event(phase: str, at_us: int, name: str, file: str, line: int = 0, thread: int = 7) -> dict[str, Any]:
    """As py-spy writes them."""
    return {
        "ph": phase, "ts": at_us, "name": name, "args": {"filename": file, "line": line}, "tid": thread, "pid": 1,
        "cat": "py-spy",
    }  # fmt: skip


def begins_and_ends(*frames: tuple[int, int, str, str], thread: int = 7) -> list[dict[str, Any]]:
    """Nested frames: begin, end, name, file."""
    begins = [event("B", begin, name, file, 3, thread) for begin, _, name, file in frames]
    ends = [event("E", end, name, file, 3, thread) for _, end, name, file in reversed(frames)]
    return sorted([*begins, *ends], key=lambda each: each["ts"])


def test_stacks_are_read_with_their_times_by_thread() -> None:
    events = [
        *begins_and_ends((0, 9_000_000, "wait", "/x/t.py"), thread=5),
        *begins_and_ends((0, 4_000_000, "<module>", "/x/a.py"), (1_000_000, 3_000_000, "f;g", "/x/b.py")),
    ]
    main, waiting = read_tracks("worker 0", events, 100.0, (0.0, 1e9))
    assert main == Track(
        "worker 0",
        "samples 1",
        [
            Stack(100.0, 101.0, ("<module> (/x/a.py:3)",)),
            Stack(101.0, 103.0, ("<module> (/x/a.py:3)", "f:g (/x/b.py:3)")),
            Stack(103.0, 104.0, ("<module> (/x/a.py:3)",)),
        ],
    )
    assert waiting == Track("worker 0", "samples 2", [Stack(100.0, 109.0, ("wait (/x/t.py:3)",))])
    [cut, _] = read_tracks("worker 0", events, 100.0, (101.5, 102.0))
    assert cut.stacks == [Stack(101.5, 102.0, main.stacks[1].frames)]


def test_what_the_profiler_itself_does_is_not_the_endpoints() -> None:
    profiler = f"{OURS}/worker/profiler.py"
    events = begins_and_ends((0, 9, "<module>", "/x/a.py"), (2, 7, "Profiler.stop", profiler), (3, 6, "save", "k.so"))
    [track] = read_tracks("worker 0", events, 0.0, (0.0, 1e9))
    assert [(round(each.begin_s * 1e6), round(each.end_s * 1e6)) for each in track.stacks] == [(0, 2), (7, 9)]
    beside = begins_and_ends((0, 9, "<module>", "/x/a.py"), (2, 7, "Profiler.begin", profiler))
    assert len(read_tracks("worker 0", beside, 0.0, (0.0, 1e9))[0].stacks) == 3, "what each batch pays is"


def test_a_wait_is_known_by_its_caller_where_libc_has_no_names() -> None:
    inner = "0x7f87 (/usr/lib/libc.so.6)"
    assert part_of(["wait (/x/threading.py:1)", "PyThread_acquire_lock_timed (python)", inner, inner]) == "idle"
    assert part_of(["f (/x/a.py:1)", "mkl_sgemm (libmkl.so)", inner]) == "native"


def test_shares_are_of_each_process_and_stacks_are_folded() -> None:
    ours, idle = (f"main ({OURS}/a.py:1)", f"run ({OURS}/b.py:2)"), ("main (/x.py:1)", "epoll_wait (libc.so)")
    gateway = Track("gateway", "samples 1", [Stack(0, 0.3, ours), Stack(0.3, 1.0, idle)])
    worker = [
        Track("worker 0", "samples 1", [Stack(0, 0.5, ("f (/home/x.py:1)",))]),
        Track("worker 0", "samples 2", [Stack(0, 0.5, ("g (lib.so)",))]),
    ]
    found = summed_up([gateway, *worker], 2.0, {"worker 1": "it has gone"})
    assert found.shares["gateway"] == pytest.approx({"framework": 0.3, "python": 0.0, "native": 0.0, "idle": 0.7})
    assert found.shares["worker 0"] == {"framework": 0.0, "python": 0.5, "native": 0.5, "idle": 0.0}
    assert (found.seconds, found.missing) == (2.0, {"worker 1": "it has gone"})
    flame = found.flame()
    assert (flame.total_us, sorted(flame.children)) == (pytest.approx(2e6), ["gateway", "worker 0"])
    assert sum(us for _, us in flame.folded()) == pytest.approx(2e6)
    assert summed_up([], 1.0).shares == {}


def test_without_py_spy_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="py-spy") as raised:
        start_sampling({}, tmp_path)
    assert raised.value.hint == "pip install py-spy"


@pytest.mark.parametrize(
    ("said", "scope", "told"),
    [
        ("Error: Permission Denied: Try running again with elevated permissions", None, "--cap-add SYS_PTRACE"),
        ("Error: Operation not permitted (os error 1)", 1, "kernel.yama.ptrace_scope is 1; `sudo sysctl"),
        ("Error: Permission denied", 2, "for administrators alone"),
        ("Error: Permission denied", 3, "nobody may"),
        ("Error: Failed to find a python interpreter\n\n", 1, "Failed to find a python interpreter"),
        ("", 1, "py-spy ended without a word"),
    ],
)
def test_why_a_process_could_not_be_sampled(said: str, scope: int | None, told: str) -> None:
    assert told in why_not(said, scope)


BUSY = """
import time
def first():
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        sum(i * i for i in range(1000))
def second():
    print(time.monotonic(), flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        sum(i * i for i in range(1000))
print("runs", flush=True)
input()
first()
second()
"""


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_real_process_on_the_machines_clock(tmp_path: Path, busy: subprocess.Popen[bytes]) -> None:
    assert busy.stdout is not None
    assert busy.stdin is not None
    sampling = start_sampling({"worker 0": busy.pid, "worker 1": 2**22 - 1}, tmp_path)
    try:
        sampling.wait_begun()
        busy.stdin.write(b"\n")
        busy.stdin.flush()
        turned_s = float(busy.stdout.readline())
        sampling.wait(3)
        found, [track] = sampling.finish()
    finally:
        sampling.stop()
    assert found.shares["worker 0"]["python"] + found.shares["worker 0"]["native"] > 0.3
    assert set(found.missing) == {"worker 1"}
    for function, was_there in (("first ", (0.0, turned_s)), ("second ", (turned_s, math.inf))):
        stacks = [each for each in track.stacks if any(name.startswith(function) for name in each.frames)]
        inside_s = sum(max(0.0, min(each.end_s, was_there[1]) - max(each.begin_s, was_there[0])) for each in stacks)
        assert inside_s > sum(each.end_s - each.begin_s for each in stacks) / 2, "where it says that it was then"
    assert track.process == "worker 0"


def test_one_that_has_gone(tmp_path: Path) -> None:
    sampling = start_sampling({"worker 0": 2**22 - 1}, tmp_path)
    sampling.wait_begun()
    found, tracks = sampling.finish()
    assert (found.seconds, found.shares, tracks) == (0.0, {}, [])
    assert found.missing["worker 0"]


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, to be without its rights")
def test_without_the_right_to_trace_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: subprocess.Popen[bytes]
) -> None:
    """py-spy without the capability and as nobody, as in a container of another user."""
    with tempfile.TemporaryDirectory() as open_to_all:
        os.chmod(open_to_all, 0o755)
        copy = shutil.copy(find_py_spy(), open_to_all)
        program = tmp_path / "py-spy"
        drop = "setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -sys_ptrace"
        program.write_text(f'#!/bin/sh\nexec {drop} {copy} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
        sampling = start_sampling({"worker 0": busy.pid}, tmp_path)
        sampling.wait_begun()
        found, _ = sampling.finish()
    said = (tmp_path / f"{busy.pid}.log").read_text()
    assert "Try running again with elevated permissions" in said, "these are its own words"
    assert found.missing["worker 0"].startswith("py-spy may not trace other processes: "), said
