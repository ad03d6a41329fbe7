"""The bound on what waits in all queues together: one model's flood leaves the others their room, and is given back."""

from __future__ import annotations

import asyncio

from nbserve.config import ModelConfig
from nbserve.gateway.batcher import Batcher, QueueTotal
from nbserve.gateway.request import Answered, Request
from nbserve.wire.messages import RequestItem


class Waiting(Request):
    """A request that nobody answers before the end."""

    def answered(self, answer: Answered) -> None:
        """Nothing to do."""


def request(size_bytes: int) -> Waiting:
    return Waiting(RequestItem("application/json", "r"), b"x" * size_bytes, 0.0)


def test_bytes_are_counted_over_all_models_and_given_back() -> None:
    async def main() -> None:
        total = QueueTotal(1000)
        loop = asyncio.get_running_loop()
        first, second = (Batcher(ModelConfig(), loop=loop, total=total) for _ in range(2))
        taken = [request(300) for _ in range(3)]
        assert [first.submit(each) for each in taken] == [None] * 3
        reject = second.submit(request(200))
        assert reject is not None
        assert "all models" in reject.reason
        assert second.submit(request(100)) is None
        first.abandon(taken[0])
        assert total.size_bytes == 700
        assert second.submit(request(200)) is None
        await first.close(0.0, "over")
        await second.close(0.0, "over")
        assert total.size_bytes == 0

    asyncio.run(main())
