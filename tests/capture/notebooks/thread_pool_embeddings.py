# style: exploratory
# about: a pool of threads made once and mapped over in the handler, futures awaited by name, a bounded cache of results, retries with backoff
# input: {"docs": ["the cat sat", "a dog ran away"], "k": 1}
# input: {"docs": ["stocks fell sharply today"], "k": 2}
# input: {"docs": [], "k": 3}
# input: {"docs": ["flaky network", "the cat sat"]}
# undetected: start, _numpy_linalg
# unreached: retry.<locals>.deco.<locals>.inner
# insensitive: BACKOFF_S, RETRIES
# %% [markdown]
# scoring documents in parallel, trying things out
# %%
import functools
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
# %%
MAX_WORKERS = 4
BACKOFF_S = 0.001
RETRIES = 3
rng = np.random.default_rng(7)
# %%
topics = {
    "pets": "cat dog sat ran purr bark away".split(),
    "money": "stocks market fell rose sharply bank today".split(),
    "weather": "rain sun storm today cloud".split(),
}
# %%
DIM = 16
def bucket(word):
    return int(hashlib.md5(word.encode()).hexdigest(), 16) % DIM
# %%
projection = rng.normal(size=(DIM, 6))
# %%
@functools.lru_cache(maxsize=256)
def embed(text):
    v = np.zeros(DIM)
    for w in text.lower().split():
        v[bucket(w)] += 1.0
    v = v @ projection
    n = np.linalg.norm(v)
    return v / n if n else v
# %%
embed("the cat sat")[:3], embed.cache_info()
# %%
centroids = {name: np.mean([embed(w) for w in ws], axis=0) for name, ws in topics.items()}
# %%
def retry(times):
    def deco(f):
        @functools.wraps(f)
        def inner(*a, **k):
            for attempt in range(times):
                try:
                    return f(*a, **k)
                except ConnectionError:
                    if attempt == times - 1:
                        raise
                    time.sleep(BACKOFF_S * 2 ** attempt)
        return inner
    return deco
# %%
failures = {}
@retry(RETRIES)
def fetch_score(text, topic):
    if text.startswith("flaky") and failures.setdefault((text, topic), 0) < 2:
        failures[text, topic] += 1
        raise ConnectionError("try again")
    return float(embed(text) @ centroids[topic])
# %%
def start():
    """runs in every thread of the pool"""
    np.seterr(all="ignore")

pool = ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="score", initializer=start)
# %%
# sequential for comparison
%time [fetch_score("the cat sat", t) for t in topics]
# %%
list(pool.map(lambda t: fetch_score("a dog ran", t), topics))
# %%
def score_all(text):
    futures = {pool.submit(fetch_score, text, topic): topic for topic in topics}
    return {futures[f]: f.result() for f in as_completed(futures)}
# %%
score_all("a dog ran")
# %%
def best(text, k):
    scores = score_all(text)
    ranked = sorted(scores, key=lambda t: (-round(scores[t], 9), t))
    return [[t, round(scores[t], 6)] for t in ranked[:k]]
# %%
%%serve_handler topics --sample {"docs": ["the cat sat", "a dog ran away"], "k": 1}
def predict(batch):
    answers = []
    for row in batch:
        k = row.get("k", 2)
        found = dict(zip(row["docs"], pool.map(lambda d: best(d, k), row["docs"]))) if len(row["docs"]) < 2 else {d: best(d, k) for d in row["docs"]}
        answers.append({"best": found, "seen": len(failures)})
    return answers
