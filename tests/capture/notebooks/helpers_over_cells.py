# style: language
# about: one helper a cell, each using those above, constants between them
# insensitive: STOP
# input: "  The QUICK brown fox, and the lazy dog!  "
# input: "the the ox is it"
# input: ""
# input: "a b c"
# %%
import re
import string
from collections import Counter
# %%
STOP = {"the", "and", "a", "of"}
# %%
MIN_LENGTH = 2
# %%
def clean(text):
    return re.sub(rf"[{re.escape(string.punctuation)}]", " ", text.lower())
# %%
def tokens(text):
    return [word for word in clean(text).split() if len(word) >= MIN_LENGTH]
# %%
def content_words(text):
    return [word for word in tokens(text) if word not in STOP]
# %%
def profile(text):
    words = content_words(text)
    if not words:
        return {"words": 0, "top": None}
    return {"words": len(words), "top": sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))[0][0]}
# %%
%%serve_handler profile --sample "  The QUICK brown fox, and the lazy dog!  "
def predict(batch):
    return [profile(text) for text in batch]
