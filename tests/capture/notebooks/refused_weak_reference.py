# style: values
# about: a WeakValueDictionary as a cache
# expect: refused: refer to the object itself
# input: 1
# input: 2
# %%
import weakref
class Node:
    def __init__(self, value):
        self.value = value
keep = [Node(3), Node(4)]
cache = weakref.WeakValueDictionary({i: n for i, n in enumerate(keep)})
# %%
%%serve_handler weak --sample 1
def predict(batch):
    return [len(cache) + x + len(keep) for x in batch]
