"""A workload on mosec: its Rust front end batches, Python workers pull. Answers POST /inference."""

import sys
from typing import Any

import arguments
import handlers
from mosec import Server, Worker

ASKED = arguments.parse()


class Predict(Worker):
    """JSON in and out by mosec's own (de)serialization; `forward` gets a list where batches may be larger than 1."""

    def __init__(self) -> None:
        self.predict = handlers.make(ASKED.workload, ASKED.threads)

    def forward(self, data: list[Any]) -> list[Any]:
        """One batch."""
        return self.predict(data)


if __name__ == "__main__":
    wait_ms = int(ASKED.wait_ms)
    # mosec takes a wait of 0 for "not said"; its older option says it
    sys.argv += ["--address", "127.0.0.1", "--timeout", "30000", "--log-level", "warning"]
    sys.argv += ["--wait", "0"] if wait_ms == 0 else []
    server = Server()
    server.append_worker(Predict, num=ASKED.workers, max_batch_size=ASKED.max_batch_size, max_wait_time=wait_ms)
    server.run()
