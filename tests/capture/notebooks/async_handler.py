# style: language
# about: coroutines, an async generator, an async context manager and an async cache, in a handler that awaits
# input: {"n": 3}
# input: {"n": 0}
# %%
import asyncio
from contextlib import asynccontextmanager

await asyncio.sleep(0)
# %%
async def lookup(key):
    await asyncio.sleep(0)
    return {"a": 1, "b": 2}.get(key, 0)

async def countdown(n):
    while n > 0:
        yield n
        n -= 1
        await asyncio.sleep(0)
# %%
@asynccontextmanager
async def measured(log):
    log.append("in")
    try:
        yield log
    finally:
        log.append("out")
# %%
found = await lookup("b")
# %%
%%serve_handler countdown --sample {"n": 3}
class Countdown:
    async def initialize(self, context):
        self.base = await lookup("a")

    async def one(self, row):
        log = []
        async with measured(log):
            values = [n async for n in countdown(row["n"])]
        got = await asyncio.gather(*(lookup(key) for key in "abz"))
        return {"values": values, "log": log, "got": got, "base": self.base, "found": found}

    async def inference(self, batch):
        return [await self.one(row) for row in batch]
