"""Samples of py-spy: whose time a stack is, what shares come of it, and a real process sampled for a second."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nbserve
from nbserve.errors import MeasureError, UsageError
from nbserve.measure.system_profile import part_of, read_stacks, start_sampling, summed_up

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


def test_shares_are_of_each_process_and_stacks_are_folded() -> None:
    gateway = read_stacks(
        [f"main ({OURS}/a.py:1);run ({OURS}/b.py:2) 3", "main (/x.py:1);epoll_wait (libc.so) 7", "no count", ""]
    )
    worker = {"f (/home/x.py:1)": 5, "g (lib.so)": 5}
    found = summed_up({"gateway": gateway, "worker 0": worker}, 2.0, {"worker 1": "it has gone"})
    assert found.shares["gateway"] == {"framework": 0.3, "python": 0.0, "native": 0.0, "idle": 0.7}
    assert found.shares["worker 0"] == {"framework": 0.0, "python": 0.5, "native": 0.5, "idle": 0.0}
    assert (found.samples, found.missing) == (20, {"worker 1": "it has gone"})
    flame = found.flame()
    assert (flame.total_us, sorted(flame.children)) == (20, ["gateway", "worker 0"])
    assert sum(count for _, count in flame.folded()) == 20
    assert summed_up({"gateway": {}}, 1.0).shares["gateway"]["idle"] == 0.0


def test_without_py_spy_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="py-spy") as raised:
        start_sampling({}, 1, tmp_path)
    assert raised.value.hint == "pip install py-spy"


BUSY = """
import time
def handler():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        sum(i * i for i in range(1000))
print("runs", flush=True)
handler()
"""


def test_a_real_process(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        sampling = start_sampling({"worker 0": busy.pid, "worker 1": 2**22 - 1}, 1, tmp_path)
        found = sampling.result()
        busy.kill()
    assert any("handler" in stack for stack in found.folded)
    assert found.shares["worker 0"]["python"] + found.shares["worker 0"]["native"] > 0.5
    assert set(found.missing) == {"worker 1"}
    gone = start_sampling({"worker 0": busy.pid}, 1, tmp_path)
    with pytest.raises(MeasureError, match="could not sample") as raised:
        gone.result()
    assert "ptrace" in raised.value.hint
