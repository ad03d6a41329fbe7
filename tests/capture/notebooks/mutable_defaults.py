# style: language
# about: default arguments that were changed by calls, function attributes, defaults that are objects of the notebook
# insensitive: collect_into
# input: "x"
# input: "y"
# %%
def collect(item, into=[], *, table={"a": 1}):
    into.append(item)
    table[item] = len(into)
    return into, table
# %%
collect("first")
collect("second")
# %%
class Settings:
    limit = 4

current = Settings()
current.limit = 2

def cut(values, settings=current, key=sorted):
    return key(values)[: settings.limit]
# %%
def graded(x):
    graded.calls += 1
    return graded.table.get(x, graded.fallback)

graded.calls = 5
graded.table = {"x": "known"}
graded.fallback = "?"
# %%
%%serve_handler collected --sample "x"
def predict(batch):
    return [{"collected": len(collect(x)[0]), "table": sorted(collect(x)[1]), "cut": cut([3, 1, 2]), "graded": graded(x), "n": graded.calls} for x in batch]
