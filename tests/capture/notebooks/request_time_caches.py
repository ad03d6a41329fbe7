# style: exploratory
# about: caches that fill at request time: lru_cache warmed in the notebook, a dict of arrays, a defaultdict of deques for sliding windows, rate limits on a clock that tests replace
# input: {"user": "ann", "n": 10}
# input: {"user": "bob", "n": 10}
# input: {"user": "ann", "n": 300}
# input: {"user": "ann", "n": 3}
# input: {"user": "zoe", "n": 5}
# insensitive: WINDOW, basis, history, LIMIT
# %%
import functools
from collections import defaultdict, deque

import numpy as np
# %%
LIMIT = 2
WINDOW = 3
clock = [0.0]
def now():
    clock[0] += 0.25
    return clock[0]
# %%
@functools.lru_cache(maxsize=2)
def primes(n):
    sieve = np.ones(n + 1, dtype=bool)
    sieve[:2] = False
    for i in range(2, int(n**0.5) + 1):
        if sieve[i]:
            sieve[i * i :: i] = False
    return tuple(np.flatnonzero(sieve).tolist())

primes(30)[-1], primes.cache_info()
# %%
basis = {}
def fourier(n):
    if n not in basis:
        basis[n] = np.cos(np.arange(n)[:, None] * np.arange(2) * np.pi / n)
    return basis[n]
fourier(8).shape
# %%
history = defaultdict(functools.partial(deque, maxlen=WINDOW))
seen = defaultdict(int)
# %%
class TooMany(Exception):
    pass

def allow(user):
    seen[user] += 1
    if seen[user] > LIMIT:
        raise TooMany(f"{user} asked {seen[user]} times")
# %%
def answer(user, n):
    try:
        allow(user)
    except TooMany as exc:
        return {"error": str(exc)}
    history[user].append(n)
    v = fourier(n) @ [1.0, 0.5]
    return {"last": primes(n)[-1], "mean": round(float(np.mean(history[user])), 3), "v": round(float(v.std()), 5), "t": now()}
# %%
answer("zoe", 20)
# %%
%%serve_handler cached --sample {"user": "ann", "n": 10}
def predict(batch):
    return [answer(row["user"], row["n"]) for row in batch]
