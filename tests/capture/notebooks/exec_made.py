# style: language
# about: functions made by exec and eval from text
# expect: live only
# input: 3
# input: 5
# %%
templates = {"double": "x * 2", "shift": "x + 10"}
for name, body in templates.items():
    exec(f"def {name}(x):\n    return {body}\n")
# %%
triple = eval("lambda x: x * 3")
scope = {}
exec("LIMIT = 12\ndef limited(x):\n    return min(x, LIMIT)\n", scope)
limited = scope["limited"]
# %%
%%serve_handler made --sample 3
def predict(batch):
    return [[double(x), shift(x), triple(x), limited(x * 4)] for x in batch]
