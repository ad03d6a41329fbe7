# style: exploratory
# unreached: _make_Buffer_3.<locals>.Buffer.add
# about: three versions of one class over the day, instances of each still in use, one patched, %%capture, reruns in odd order
# order: 1 2 3 5 4 6 7 6 8 9 10 11 12 13 14 15
# undetected: deque
# insensitive: b1, bufs
# input: [3, 1, 2]
# input: []
# %%
import json, math, itertools as it
from collections import deque
# %%
class Buffer:
    size = 2

    def __init__(self):
        self.items = deque(maxlen=self.size)

    def add(self, x):
        self.items.append(x)
        return self
# %%
b1 = Buffer().add(1).add(2).add(3)
# %%
b2 = Buffer().add("x")
# %%
class Buffer:
    size = 3

    def __init__(self, tag="v2"):
        self.items, self.tag = [], tag

    def add(self, x):
        self.items = (self.items + [x])[-self.size :]
        return self

    def __len__(self):
        return len(self.items)
# %%
counter = counter + 1 if "counter" in globals() else 0
# %%
%%capture noise
print("lots of output")
b3 = Buffer("v2b").add(counter)
# %%
Buffer.size = 4
# %%
def total(self):
    return sum(x for x in self.items if isinstance(x, (int, float)))
Buffer.total = total
# %%
bufs = {"one": b1, "two": b2, "three": b3}
# %%
class Buffer(Buffer):
    def total(self):
        return -super().total()
# %%
b4 = Buffer("v3").add(5)
bufs["four"] = b4
# %%
_ = [print(k, type(v).__name__) for k, v in bufs.items()]
# %%
mode = next(m for m in it.cycle(["a", "b"]) if m > "a")
# %%
%%serve_handler buffers --sample [3, 1, 2]
def predict(batch):
    answers = []
    for values in batch:
        fresh = Buffer()
        for v in values:
            fresh.add(v)
        answers.append({"fresh": [len(fresh), fresh.total(), fresh.tag], "old": list(b1.items), "size": [type(b).size for b in bufs.values()],
                        "totals": [b.total() for k, b in bufs.items() if hasattr(b, "total")], "counter": counter, "mode": mode})
    return answers
