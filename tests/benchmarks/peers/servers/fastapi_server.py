"""A workload on FastAPI and uvicorn with a batcher written by hand, as people do. Answers POST /predict."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import arguments
import handlers
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

ASKED = arguments.parse()
predict = handlers.make(ASKED.workload, ASKED.threads)


class Batcher:
    """First request, then what comes within the wait, up to the largest batch; the model runs in a thread."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] = asyncio.Queue()

    async def ask(self, body: Any) -> Any:
        """One request's answer."""
        future = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((body, future))
        return await future

    async def run(self) -> None:
        """Without end."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self.queue.get()]
            until_s = loop.time() + ASKED.wait_ms / 1e3
            while len(batch) < ASKED.max_batch_size:
                if not self.queue.empty():
                    batch.append(self.queue.get_nowait())
                    continue
                left_s = until_s - loop.time()
                if left_s <= 0:
                    break
                try:
                    batch.append(await asyncio.wait_for(self.queue.get(), left_s))
                except TimeoutError:
                    break
            answers = await loop.run_in_executor(None, predict, [body for body, _ in batch])
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


batcher = Batcher()


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """The batcher runs as long as the server does."""
    task = asyncio.create_task(batcher.run())
    yield
    task.cancel()


app = FastAPI(lifespan=life)


@app.post("/predict")
async def answer(request: Request) -> JSONResponse:
    """No pydantic model: the cheapest way that FastAPI has."""
    return JSONResponse(await batcher.ask(await request.json()))


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=ASKED.port, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
