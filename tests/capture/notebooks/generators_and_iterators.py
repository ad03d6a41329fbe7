# style: language
# about: generator functions with send and return values, iterator classes, itertools chains made at request time, comprehension scopes, yield from in recursion
# input: [3, 1, 2]
# input: [5]
# %%
import itertools
# %%
def running(values):
    total = 0
    for value in values:
        total += value
        got = yield total
        if got:
            total = 0
    return total
def outer(values):
    left = yield from running(values)
    yield f"left {left}"
# %%
class Window:
    def __init__(self, items, size=2):
        self.items, self.size = items, size
    def __iter__(self):
        for start in range(len(self.items) - self.size + 1):
            yield tuple(self.items[start:start + self.size])
    def __reversed__(self):
        return iter(list(self)[::-1])
# %%
def walk(tree):
    match tree:
        case [*children]:
            for child in children:
                yield from walk(child)
        case leaf:
            yield leaf
TREE = [1, [2, [3, [4]]], [[5]]]
# %%
primes = [p for p in range(2, 30) if all(p % q for q in range(2, p))]
pairs = {(a, b): a * b for a, b in itertools.combinations(primes[:4], 2)}
# %%
%%serve_handler generators --sample [3, 1, 2]
def predict(batch):
    out = []
    for values in batch:
        gen = running(itertools.count(values[0]))
        sums = [next(gen), gen.send(True), next(gen)]
        grouped = {key: len(list(each)) for key, each in itertools.groupby(sorted(values), key=lambda v: v % 2)}
        out.append([list(outer(values)), sums, list(Window(values)), list(reversed(Window(primes[:4], size=3))), [*walk(TREE)], str(grouped), sum(pairs.values()), [w for w in walk(values)]])
    return out
