"""`python -m nbserve.worker -f CONNECTION_FILE`: an IPython kernel that also serves batches.

Started by gateway/pool/provisioner.py, or forked by worker/zygote.py. Handed over by environment: the data stream
(NBSERVE_DATA_FD), the status page (NBSERVE_STATUS_FD), a pidfd of the gateway (NBSERVE_GATEWAY_FD, where there are any)
and the cores (NBSERVE_CORES). Affinity is set here, before numpy or torch size their thread pools from it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from nbserve.process_name import name_process

KEEP_FREED_BYTES = 64 * 1024 * 1024
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
ORPHAN_GRACE_S = 1.0
"""How long a worker may take to leave by itself once its gateway has died; the end of its stream tells it, too."""


def _pin() -> None:
    cores = os.environ.get("NBSERVE_CORES", "")
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})


def _offer_memory() -> None:
    """Where memory runs out, a worker is to die before the notebook: raising one's own score needs no rights."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def keep_freed_memory() -> None:
    """glibc gives freed memory back to the system at once, and takes it anew, page by page, for the next batch: eight
    bodies of 600 KB cost 147 us each, 15 us where it stays. Other C libraries do without."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_TRIM_THRESHOLD, KEEP_FREED_BYTES)
        libc.mallopt(M_MMAP_THRESHOLD, KEEP_FREED_BYTES // 2)  # 32 MiB is the most that glibc takes


def _watch_gateway() -> None:
    """End with the gateway, also where user code never returns to read the end of the stream.

    Instead of ipykernel's own watch, which looks every second, and at the parent: that may be a zygote.
    """
    fd = int(os.environ.pop("NBSERVE_GATEWAY_FD", "-1"))
    if fd >= 0:
        os.environ.pop("JPY_PARENT_PID", None)  # read when ipykernel is imported
        threading.Thread(target=_end_with, args=(fd,), name="gateway-watch", daemon=True).start()


def _end_with(pidfd: int) -> None:
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    ended.poll()
    time.sleep(ORPHAN_GRACE_S)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with what the handler has started
    os._exit(1)


def _end_children() -> None:
    """Processes that the handler has started and left; the gateway, where it lives, kills those that stay."""
    if os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)


def _leave() -> NoReturn:
    """End as the interpreter does, threads waited for and exit hooks run, but without taking every object apart: in a
    forked worker that copies the pages that it shares. With torch and 403 MB of weights that
    was 0.5 s, and is 0.08."""
    threading._shutdown()  # type: ignore[attr-defined]  # joins what is no daemon, as the interpreter's end does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(Exception):
            stream.flush()  # type: ignore[union-attr]
    os._exit(0)


def main(argv: list[str]) -> None:
    """Run until the data stream ends or Jupyter shuts the kernel down."""
    name_process("nbserve-worker")
    atexit.register(_end_children)  # the first: it runs after the handler's own hooks
    _pin()
    _offer_memory()
    keep_freed_memory()
    _watch_gateway()
    from ipykernel.kernelapp import IPKernelApp
    from tornado.ioloop import IOLoop

    from nbserve.worker.loop import WorkerLoop

    app: Any = IPKernelApp.instance()
    last_words = os.dup(2)  # ipykernel sends fd 2 through a pipe that it reads itself: of no use to the dying
    app.initialize(argv)
    faulthandler.enable(last_words, all_threads=False)
    loop = WorkerLoop.from_environment(app, last_words)
    IOLoop.current().add_callback(loop.start)  # the loop that app.start() is about to run
    app.start()
    _leave()


if __name__ == "__main__":
    main(sys.argv[1:])
