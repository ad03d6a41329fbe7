# style: values
# about: deques with a bound, Counter, ChainMap, defaultdict of a factory of one's own, UserDict and UserList classes, a heap, bisect tables
# insensitive: labels, stack
# input: ["b", 3]
# input: ["zz", 11]
# input: ["a", 0]
# %%
import bisect
import heapq
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
# %%
recent = deque([1, 2, 3], maxlen=3)
counts = Counter("abracadabra")
layers = ChainMap({"a": 1}, {"a": 2, "b": 20})
order = OrderedDict([("b", 2), ("a", 1)])
# %%
def fresh():
    return {"n": 0, "seen": []}
groups = defaultdict(fresh, a={"n": 5, "seen": ["x"]})
# %%
class Folded(UserDict):
    """Keys without case."""
    def __getitem__(self, key):
        return self.data.get(str(key).lower(), "?")
class Stack(UserList):
    def top(self):
        return self.data[-1] if self.data else None
folded = Folded(a="first", b="second")
stack = Stack([7, 8])
# %%
heap = []
for cost in (5, 1, 4):
    heapq.heappush(heap, (cost, str(cost)))
edges, labels = [0, 2, 5, 10], ["low", "mid", "high", "top", "over"]
# %%
%%serve_handler collections --sample ["b", 3]
def predict(batch):
    out = []
    for key, number in batch:
        recent.append(number)
        groups[key]["n"] += number
        out.append({
            "recent": list(recent), "count": counts[key], "layer": layers.get(key), "first": next(iter(order)),
            "group": dict(groups[key]), "folded": Folded.__getitem__(folded, key.upper()), "top": stack.top(),
            "cheapest": heap[0], "label": labels[bisect.bisect(edges, number)], "all": sorted(groups),
        })
    return out
