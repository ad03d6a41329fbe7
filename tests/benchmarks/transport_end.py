"""The worker's end of transport.py, a process of its own: prints its seconds of CPU."""

from __future__ import annotations

import sys

from nbserve.worker.__main__ import keep_freed_memory
from tests.benchmarks.transport import receive

if __name__ == "__main__":
    keep_freed_memory()  # as a worker does
    fd, page_fd, copies = sys.argv[1:]
    print(receive(int(fd), int(page_fd), copies=copies == "True"))
