# style: language
# about: names of builtins bound to other things, and one of them deleted again
# insensitive: max
# input: [3, 1, 2]
# input: [10]
# %%
import builtins

max = 3
id = "model-7"
type = {"kind": "list"}
list_ = list
filter = lambda items: [item for item in items if item <= max]
# %%
def sum(values):
    return builtins.sum(values) * 100
# %%
len = 5
del len
# %%
def input(values):
    return sorted(values)
# %%
%%serve_handler shadowed --sample [3, 1, 2]
def predict(batch):
    return [{"sum": sum(v), "filter": filter(v), "id": id, "type": type, "n": len(v), "input": input(v), "same": list_(v)} for v in batch]
