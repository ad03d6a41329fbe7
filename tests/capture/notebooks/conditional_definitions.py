# style: language
# about: which definition there is depends on a condition, an import or a loop
# input: [3, 1, 2]
# input: []
# %%
FAST = False
if FAST:
    def order(values):
        return list(reversed(sorted(values)))
else:
    def order(values):
        return sorted(values, reverse=True)
# %%
try:
    import a_library_that_nobody_has as json_like
    dump = json_like.dumps
except ImportError:
    import json

    def dump(value):
        return json.dumps(value, separators=(",", ":"))
# %%
for name in ("low", "high"):
    if name == "high":
        def pick(values):
            return max(values, default=None)
    else:
        def pick(values):
            return min(values, default=None)
# %%
with open("note.txt", "w") as note:
    note.write("x")

    def marked(text):
        return f"<{text}>"
# %%
%%serve_handler order --sample [3, 1, 2]
def predict(batch):
    return [{"order": order(v), "text": marked(dump(v)), "pick": pick(v)} for v in batch]
