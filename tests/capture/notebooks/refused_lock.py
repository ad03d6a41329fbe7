# style: values
# about: a lock in a cache object that a helper uses
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
%%serve_handler locked --sample "a"
def predict(batch):
    return [lookup(key) for key in batch]
