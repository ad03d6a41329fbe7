"""`python -m nbserve.worker -f CONNECTION_FILE`: an IPython kernel that also serves batches.

Started by gateway/pool/provisioner.py, which hands over by environment: the data stream (NBSERVE_DATA_FD), the status
page (NBSERVE_STATUS_FD) and the cores (NBSERVE_CORES). Affinity is set here, before numpy or torch size their thread
pools from it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from pathlib import Path
from typing import Any


def _pin() -> None:
    cores = os.environ.get("NBSERVE_CORES", "")
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})


def _offer_memory() -> None:
    """Where memory runs out, a worker is to die before the notebook: raising one's own score needs no rights."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def main(argv: list[str]) -> None:
    """Run until the data stream ends or Jupyter shuts the kernel down."""
    _pin()
    _offer_memory()
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


if __name__ == "__main__":
    main(sys.argv[1:])
