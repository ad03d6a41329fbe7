# style: exploratory
# about: reviews cleaned by many patterns, html and emoji removed, contractions, optional libraries by try/except ImportError, logging with levels, a spelling corrector by edit distance
# input: "I can't belive it!! <b>Grrreat</b> &amp; cheap, see https://x.org/a?b=1 :-) 10/10"
# input: "terrible... wouldn't recomend to @anyone #fail"
# input: ""
# insensitive: STOPWORDS, HAVE_NLTK, LETTERS, URL, pattern, vocabulary
# undetected: HAVE_NLTK
# unreached: stem
# %%
import html
import logging
import re
import string
import unicodedata
from collections import Counter
# %%
logging.basicConfig(level=logging.WARNING)
log = logging.getLogger("cleaning")
log.setLevel(logging.DEBUG)
logging.getLogger("cleaning.spell").setLevel(logging.ERROR)
# %%
try:
    import nltk_that_nobody_has as nltk
    HAVE_NLTK = True
    stem = nltk.PorterStemmer().stem
except ImportError:
    HAVE_NLTK = False
    def stem(word):
        return word
# %%
try:
    import regex
except ImportError:
    regex = re
# %%
URL = re.compile(r"https?://\S+|www\.\S+", re.I)
TAG = re.compile(r"<[^>]+>")
HANDLE = re.compile(r"(?<!\w)[@#]\w+")
REPEAT = re.compile(r"(\w)\1{2,}")
SCORE = re.compile(r"\b(?P<got>\d+)\s*/\s*(?P<of>\d+)\b")
EMOJI = regex.compile(r"[:;]-?[)(DP]")
# %%
CONTRACTIONS = {"can't": "cannot", "won't": "will not", "n't": " not", "'re": " are", "'s": " is"}
pattern = re.compile("|".join(map(re.escape, sorted(CONTRACTIONS, key=len, reverse=True))))
# %%
def expand(text):
    return pattern.sub(lambda m: CONTRACTIONS[m.group(0)], text)

expand("can't wouldn't")
# %%
reviews = ["I cannot believe how great this is", "terrible quality, would not recommend", "cheap and great", "I believe it is cheap", "recommend it to anyone"]
vocabulary = Counter(w for r in reviews for w in re.findall(r"[a-z]+", r.lower()))
vocabulary.most_common(3)
# %%
LETTERS = string.ascii_lowercase
def edits(word):
    splits = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    deletes = {a + b[1:] for a, b in splits if b}
    inserts = {a + c + b for a, b in splits for c in LETTERS}
    return deletes | inserts
# %%
spell = logging.getLogger("cleaning.spell")
def correct(word):
    if word in vocabulary or len(word) < 4:
        return word
    found = sorted(edits(word) & vocabulary.keys(), key=lambda w: (-vocabulary[w], w))
    if found:
        spell.info("%s -> %s", word, found[0])
    return found[0] if found else word
# %%
correct("belive"), correct("recomend"), correct("xyzzy")
# %%
STOPWORDS = frozenset("i it to is and this".split())
# %%
STEPS = [
    html.unescape,
    lambda t: TAG.sub(" ", t),
    lambda t: URL.sub(" ", t),
    lambda t: HANDLE.sub(" ", t),
    lambda t: EMOJI.sub(" smile ", t),
    str.lower,
    lambda t: unicodedata.normalize("NFKD", t),
    expand,
    lambda t: REPEAT.sub(r"\1\1", t),
]
# %%
def clean(text):
    for step in STEPS:
        text = step(text)
    words = [correct(w) for w in re.findall(r"[a-z]+", text)]
    return [w if HAVE_NLTK is None else w for w in words if w not in STOPWORDS]
# %%
clean("I can't belive it!")
# %%
%%serve_handler cleaning --sample "I can't belive it!! <b>Grrreat</b> &amp; cheap, see https://x.org/a?b=1 :-) 10/10"
def predict(batch):
    out = []
    for text in batch:
        score = SCORE.search(text)
        out.append({
            "words": clean(text),
            "score": int(score["got"]) / int(score["of"]) if score else None,
            "debug": log.isEnabledFor(logging.DEBUG),
            "spell": spell.isEnabledFor(logging.WARNING),
        })
    return out
