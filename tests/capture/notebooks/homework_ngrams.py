# style: homework
# about: an n-gram language model with smoothing and backoff, classes in three versions, doctests in cells
# undetected: defaultdict
# insensitive: backoff
# input: "the cat"
# input: "zebra"
# input: "cat is a"
# unreached: NGram.fit, Backoff.score
# %%
import math
import re
from collections import Counter, defaultdict
from itertools import islice
# %%
corpus = """The cat sat on the mat. The dog sat on the cat. A cat likes the dog.
The mat is on the floor. A dog is a dog is a dog."""
# %%
def tokenize(text):
    """
    >>> tokenize("A b.")
    ['a', 'b', '.']
    """
    return re.findall(r"\w+|\.", text.lower())
# %%
import doctest
doctest.run_docstring_examples(tokenize, {"tokenize": tokenize})
# %%
sentences = [s.split() + ["</s>"] for s in " ".join(tokenize(corpus)).split(" .") if s]
# %%
class NGram:
    def __init__(self, n):
        self.n = n
        self.counts = defaultdict(Counter)

    def fit(self, sentences):
        for s in sentences:
            s = ["<s>"] * (self.n - 1) + s
            for i in range(self.n - 1, len(s)):
                self.counts[tuple(s[i - self.n + 1 : i])][s[i]] += 1
        return self

    def p(self, word, context):
        c = self.counts[context]
        return c[word] / sum(c.values()) if c else 0.0
# %%
bigram = NGram(2).fit(sentences)
bigram.p("cat", ("the",))
# %%
vocabulary = {w for s in sentences for w in s}
V = len(vocabulary)
# %%
class Smoothed(NGram):
    k = 0.1

    def p(self, word, context):
        c = self.counts.get(context, Counter())
        return (c[word] + self.k) / (sum(c.values()) + self.k * V)
# %%
smooth = Smoothed(2).fit(sentences)
# %%
def perplexity(model, words):
    words = ["<s>"] * (model.n - 1) + words + ["</s>"]
    logs = [math.log(model.p(words[i], tuple(words[i - model.n + 1 : i]))) for i in range(model.n - 1, len(words))]
    return math.exp(-sum(logs) / len(logs))
# %%
perplexity(smooth, ["the", "cat"])
# %%
Smoothed.k = 0.5
# %%
class Backoff:
    def __init__(self, *models, penalty=0.4):
        self.models, self.penalty = models, penalty

    def score(self, word, context):
        factor = 1.0
        for model in self.models:
            p = NGram.p(model, word, tuple(context[-(model.n - 1) :]) if model.n > 1 else ())
            if p:
                return factor * p
            factor *= self.penalty
        return factor / V
# %%
models = [NGram(n).fit(sentences) for n in (3, 2, 1)]
backoff = Backoff(*models)
# %%
def suggest(words, k=3):
    scored = {w: backoff.score(w, ["<s>", "<s>", *words]) for w in sorted(vocabulary)}
    return list(islice(sorted(scored.items(), key=lambda kv: (-kv[1], kv[0])), k))
# %%
suggest(["the"])
# %%
%%serve_handler words --sample "the cat"
def predict(batch):
    return [{"next": suggest(tokenize(t)), "perplexity": round(perplexity(smooth, tokenize(t)), 6), "k": smooth.k, "v": V} for t in batch]
