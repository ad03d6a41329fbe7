# style: homework
# about: beam search over a word-level model: TODO cells filled in, asserts, a heap of hypotheses, length penalty, a cell deleted after it ran
# input: {"start": "the", "beams": 2, "length": 3}
# input: {"start": "a", "beams": 3, "length": 4}
# input: {"start": "zzz", "beams": 1, "length": 2}
# input: {"start": "dog"}
# input: {"start": "mat", "beams": 1, "length": 3}
# insensitive: ALPHA, bigrams, counts, SMOOTH
# %% [markdown]
# # Exercise 4: decoding
# %%
import heapq
import math
from collections import Counter, defaultdict
from typing import NamedTuple
# %%
TEXT = """the cat sat on the mat . the dog sat on a log . a cat saw the dog . the dog saw a bird .
a bird sat on the cat . the bird saw the log ."""
tokens = TEXT.split()
# %%
counts = defaultdict(Counter)
for left, right in zip(tokens, tokens[1:]):
    counts[left][right] += 1
assert counts["the"]["dog"] == 3
# %%
vocabulary = sorted(set(tokens))
SMOOTH = 0.1
def log_prob(word, given):
    # YOUR CODE HERE
    seen = counts.get(given, Counter())
    return math.log((seen[word] + SMOOTH) / (sum(seen.values()) + SMOOTH * len(vocabulary)))
# %%
assert abs(sum(math.exp(log_prob(w, "the")) for w in vocabulary) - 1) < 1e-9
# %%
class Hypothesis(NamedTuple):
    score: float
    words: tuple

    @property
    def last(self):
        return self.words[-1]

    def extend(self, word, lp):
        return Hypothesis(self.score + lp, (*self.words, word))
# %%
ALPHA = 0.7
def penalised(h, alpha=ALPHA):
    return h.score / (len(h.words) ** alpha)
# %%
ALPHA = 0.9  # tried a larger one; penalised keeps the first
# %%
def greedy(start, length):
    h = Hypothesis(0.0, (start,))
    for _ in range(length):
        word = max(vocabulary, key=lambda w: (log_prob(w, h.last), w))
        h = h.extend(word, log_prob(word, h.last))
    return h
# %%
greedy("the", 3)
# %%
def beam_search(start, beams=2, length=3, stop="."):
    live, done = [Hypothesis(0.0, (start,))], []
    for _ in range(length):
        grown = (h.extend(w, log_prob(w, h.last)) for h in live for w in vocabulary)
        live = heapq.nlargest(beams, grown, key=lambda h: (h.score, h.words))
        done += [h for h in live if h.last == stop]
        live = [h for h in live if h.last != stop]
        if not live:
            break
    return sorted(done + live, key=lambda h: (-penalised(h), h.words))
# %%
assert beam_search("the", 1, 3)[0].words == greedy("the", 3).words
# %%
def show(h):
    return f"{' '.join(h.words)} ({h.score:.3f})"
# %%
# hidden test
for b in (1, 2, 3):
    assert beam_search("a", b)[0].score <= 0
# %%
del tokens, TEXT
# %%
%%serve_handler decode --sample {"start": "the", "beams": 2, "length": 3}
def predict(batch):
    answers = []
    for row in batch:
        found = beam_search(row["start"], row.get("beams", 2), row.get("length", 3))
        answers.append({"best": show(found[0]), "n": len(found), "greedy": greedy(row["start"], 2).words, "score": penalised(found[0])})
    return answers
