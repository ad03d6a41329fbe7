# style: modules
# about: a module beside the notebook, its functions, constants and a class; another that it imports
# input: "Hello World"
# input: ""
# %%
%%writefile cleaning.py
import re

from wordlist import STOP

PATTERN = re.compile(r"[a-z]+")

def words(text):
    return [word for word in PATTERN.findall(text.lower()) if word not in STOP]

class Stats:
    def __init__(self, limit):
        self.limit = limit

    def of(self, text):
        return len(words(text)) / self.limit
# %%
%%writefile wordlist.py
STOP = frozenset({"the", "a"})
# %%
import cleaning
from cleaning import Stats as S, words
# %%
stats = S(4)
# %%
%%serve_handler words --sample "Hello World"
def predict(batch):
    return [{"words": words(t), "ratio": stats.of(t), "stop": sorted(cleaning.STOP)} for t in batch]
