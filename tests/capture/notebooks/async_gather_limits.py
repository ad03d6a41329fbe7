# style: exploratory
# about: coroutines under an asyncio.Semaphore, gather, wait_for with a fallback, a queue, a lock around a cache
# input: {"words": ["deep", "blue", "sea"]}
# input: {"words": []}
# input: {"words": ["slow", "deep"]}
# insensitive: PATIENCE_S, limit, guard
# undetected: limit
# %%
import asyncio
# %%
PATIENCE_S = 0.02
limit = asyncio.Semaphore(2)
guard = asyncio.Lock()
cache = {}
# %%
async def look_up(word):
    if word == "slow":
        await asyncio.sleep(30)
    await asyncio.sleep(0)
    return len(word) * 11
# %%
async def limited(word):
    async with limit:
        async with guard:
            if word in cache:
                return cache[word]
        try:
            found = await asyncio.wait_for(look_up(word), PATIENCE_S if word == "slow" else None)
        except asyncio.TimeoutError:
            return -1
        async with guard:
            cache[word] = found
        return found
# %%
[await limited(word) for word in ("a", "bb", "sea")]
# %%
%%serve_handler limited --sample {"words": ["deep", "blue", "sea"]}
async def predict(batch):
    return [{"n": list(await asyncio.gather(*map(limited, row["words"]))), "cached": sorted(cache)} for row in batch]
