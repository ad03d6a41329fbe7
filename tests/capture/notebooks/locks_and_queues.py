# style: values
# about: locks, conditions, events, queues, semaphores, thread-local data and context variables as globals and inside objects
# input: "alpha"
# input: "beta"
# input: "alpha beta"
# input: ""
# unreached: TTLCache.clear, words_of
# insensitive: TTL_S, limit, request_id, scratch, cache, sessions
# undetected: limit, threading, OrderedDict
# %%
import queue
import threading
import time
from collections import OrderedDict
from contextvars import ContextVar
# %%
TTL_S = 600
class TTLCache:
    """LRU with expiry, from an old project"""
    def __init__(self, size=128, ttl=TTL_S):
        self._lock = threading.RLock()
        self._items = OrderedDict()
        self.size, self.ttl = size, ttl
        self.hits = self.misses = 0

    def get(self, key, make):
        with self._lock:
            found = self._items.get(key)
            if found is not None and found[0] > time.monotonic():
                self._items.move_to_end(key)
                self.hits += 1
                return found[1]
        value = make(key)
        with self._lock:
            self.misses += 1
            self._items[key] = (time.monotonic() + self.ttl, value)
            while len(self._items) > self.size:
                self._items.popitem(last=False)
        return value

    def clear(self):
        with self._lock:
            self._items.clear()

cache = TTLCache(size=2)
# %%
print_lock = threading.Lock()
limit = threading.BoundedSemaphore(4)
warm = threading.Event()
warm.set()
scratch = threading.local()
request_id = ContextVar("request_id", default="-")
# %%
# a pool of "connections" that requests borrow
class Session:
    def __init__(self, n):
        self.n, self.used = n, 0

    def embed(self, word):
        self.used += 1
        return [ord(c) % (self.n + 7) for c in word]

sessions = queue.Queue(maxsize=2)
for n in range(1):
    sessions.put(Session(n))
# %%
def embed(word):
    with limit:
        session = sessions.get()
        try:
            return session.embed(word)
        finally:
            sessions.put(session)
# %%
def words_of(text):
    if not hasattr(scratch, "buffer"):
        scratch.buffer = []
    scratch.buffer[:] = text.split()
    return list(scratch.buffer)
# %%
embed("alpha"), words_of("a b c"), cache.get("gamma", embed)
# %%
%%serve_handler locked --sample "alpha"
def predict(batch):
    out = []
    for text in batch:
        token = request_id.set(text or "empty")
        with print_lock:
            vectors = [cache.get(word, embed) for word in words_of(text)]
            out.append({"v": vectors, "id": request_id.get(), "warm": warm.is_set(), "seen": len(cache._items)})
        request_id.reset(token)
    return out
