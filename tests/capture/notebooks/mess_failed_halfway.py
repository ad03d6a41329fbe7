# style: exploratory
# about: several cells fail half-way, classes half replaced, a helper lost and found in a table, an instance of an older class
# order: 1 2 3 4 5 6 7 8 9 11 10 12 13 14 15 16
# input: {"text": "Blue sky and a red car"}
# input: {"text": ""}
# %%
import re, json
from collections import Counter
# %%
class Tagger:
    colours = ["red", "blue"]

    def tag(self, text):
        return [c for c in self.colours if c in text.lower()]

    def count(self, text):
        return Counter(text.lower().split())
# %%
tagger = Tagger()
tagger.tag("Red")
# %%
def clean(t):
    return re.sub(r"\s+", " ", t).strip()
# %%
pipeline = [clean, str.lower]
# %% fails
def clean(t):
    return undefined_helper(t)

pipeline_v2 = [clean, unknown_name]
# %%
del clean
# %% fails
class Tagger:
    colours = ["green"]

    def tag(self, text):
        return ["v2"] + [c for c in self.colours if c in text]

Tagger.broken.attribute
# %%
old_tagger = tagger
tagger = Tagger()
# %%
WEIGHTS["sky"] = 5
# %%
WEIGHTS = {"car": 2, "sky": 1}
# %% fails
with open("does-not-exist.json") as handle:
    WEIGHTS = json.load(handle)
# %%
def weigh(words):
    return sum(WEIGHTS.get(w, 0) for w in words)
# %%
def analyse(text):
    for step in pipeline:
        text = step(text)
    return {"old": old_tagger.tag(text), "new": tagger.tag(text), "w": weigh(text.split())}
# %%
try:
    analyse(None)
except Exception as e:
    last_error = type(e).__name__
# %%
%%serve_handler analyse --sample {"text": "Blue sky and a red car"}
def predict(batch):
    return [{**analyse(row["text"]), "err": last_error, "top": old_tagger.count(row["text"]).most_common(1)} for row in batch]
