# style: language
# about: contextlib managers, generator functions, yield from, ExitStack, suppress
# input: [[1, 2], [3, [4, 5]]]
# input: []
# %%
from contextlib import ExitStack, contextmanager, suppress
from itertools import accumulate, chain, islice, pairwise

@contextmanager
def scope(name, trail):
    trail.append(f"+{name}")
    try:
        yield name.upper()
    except ZeroDivisionError:
        trail.append("!")
    finally:
        trail.append(f"-{name}")
# %%
def flatten(items):
    for item in items:
        if isinstance(item, list):
            yield from flatten(item)
        else:
            yield item

def running():
    total = 0
    while True:
        got = yield total
        total += got
# %%
class Window:
    def __init__(self, size):
        self.size = size

    def __enter__(self):
        self.open = True
        return self

    def __exit__(self, *error):
        self.open = False
        return False

    def over(self, values):
        return [sum(islice(values, at, at + self.size)) for at in range(len(values) - self.size + 1)]

window = Window(2)
# %%
%%serve_handler flat --sample [[1, 2], [3, [4, 5]]]
def predict(batch):
    answers = []
    for nested in batch:
        trail = []
        with ExitStack() as stack:
            names = [stack.enter_context(scope(name, trail)) for name in "ab"]
            1 / len(nested)
        sums = running()
        next(sums)
        values = list(flatten(nested))
        with window as w, suppress(IndexError):
            totals = w.over(values)
            values[99]
        answers.append({"flat": values, "sums": [sums.send(v) for v in values], "trail": trail, "names": names, "w": totals,
                        "acc": list(accumulate(values)), "pairs": list(pairwise(chain(values, [0])))})
    return answers
