# style: values
# about: a lock that a cell acquired and never released
# expect: refused: predict -> lookup -> cache -> .lock
# %%
import threading

class Cache:
    def __init__(self):
        self.lock = threading.Lock()
        self.items = {}

cache = Cache()
# %%
def lookup(key):
    with cache.lock:
        return cache.items.setdefault(key, len(cache.items))
# %%
cache.lock.acquire()
# %%
%%serve_handler locked
def predict(batch):
    return [lookup(key) for key in batch]
