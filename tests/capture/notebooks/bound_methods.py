# style: language
# about: bound methods as values, partialmethod, methodcaller and attrgetter, a callable instance in a table, methods kept in dicts
# insensitive: push
# unreached: Gauge.sign
# input: 4
# input: -3
# %%
import operator
from functools import partial, partialmethod
# %%
class Gauge:
    def __init__(self, unit, scale):
        self.unit, self.scale, self.reads = unit, scale, 0
    def read(self, x, offset=0):
        self.reads += 1
        return (x + offset) * self.scale
    warm = partialmethod(read, offset=10)
    @classmethod
    def metric(cls, scale):
        return cls("m", scale)
    @staticmethod
    def sign(x):
        return (x > 0) - (x < 0)
    def __call__(self, x):
        return f"{self.read(x)}{self.unit}"
# %%
gauge = Gauge("km", 2)
read, make, sign = gauge.read, Gauge.metric, Gauge.sign
# %%
table = {"read": gauge.read, "call": Gauge("s", 3), "upper": operator.methodcaller("upper"), "unit": operator.attrgetter("unit")}
shifted = partial(gauge.warm)
words = ["a", "b"]
push = words.append
# %%
%%serve_handler methods --sample 4
def predict(batch):
    out = []
    for x in batch:
        push(str(x))
        out.append([read(x), make(5)(x), sign(x), table["read"](x), table["call"](x), table["upper"](table["unit"](gauge)), shifted(x), gauge.reads, words[2:]])
    return out
