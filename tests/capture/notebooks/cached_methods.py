# style: language
# unreached: Model.table, Model.table.<locals>.<listcomp>
# about: lru_cache on methods, cached_property that was filled, singledispatchmethod, total_ordering, partialmethod
# input: 4
# input: -2
# %%
import functools
class Model:
    def __init__(self, k):
        self.k = k
    @functools.lru_cache(maxsize=None)
    def score(self, x):
        return self.k * x
    @functools.cached_property
    def table(self):
        return [self.k ** i for i in range(4)]
    @functools.singledispatchmethod
    def show(self, x):
        return f"thing {x}"
    @show.register
    def _(self, x: int):
        return f"int {x * self.k}"
    @show.register(list)
    def _(self, x):
        return f"list {len(x)}"
    double = functools.partialmethod(lambda self, x, n: self.k * x * n, n=2)
    @functools.cache
    @staticmethod
    def const(x):
        return x + 0.5
# %%
model = Model(3)
model.table, model.score(5)
# %%
%%serve_handler cached --sample 4
def predict(batch):
    return [[model.score(x), model.table, model.show(x), model.show([x]), model.show("s"), model.double(x), Model.const(x)] for x in batch]
