# style: homework
# about: byte-pair encoding trained by hand with the pattern of GPT-2 (the regex package), merges in a dict of tuples, encode and decode with a cache, bytes to printable characters
# input: "lower and lowest"
# input: "naïve café 123!"
# input: ""
# insensitive: PATTERN, byte_of, ranks, char_of, vocabulary, names
# %%
import functools
from collections import Counter

import regex
# %%
PATTERN = regex.compile(r"'s|'t|'re| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
PATTERN.findall("it's naïve 12!")
# %%
CORPUS = "low lower lowest new newer newest wide wider widest " * 5
# %%
def printable():
    ok = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 0
    for b in range(256):
        table[b] = chr(b) if b in ok else chr(256 + extra)
        extra += b not in ok
    return table

char_of = printable()
byte_of = {c: b for b, c in char_of.items()}
# %%
def symbols(piece):
    return tuple(char_of[b] for b in piece.encode())
# %%
def merge(word, pair):
    out, i = [], 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append("".join(pair))
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)
# %%
def train(text, n):
    words = Counter(symbols(p) for p in PATTERN.findall(text))
    ranks = {}
    for rank in range(n):
        pairs = Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        ranks[best] = rank
        words = Counter({merge(w, best): t for w, t in words.items()})
    return ranks
# %%
ranks = train(CORPUS, 20)
assert merge(("a", "b", "a"), ("a", "b")) == ("ab", "a")
# %%
vocabulary = {s: i for i, s in enumerate([*char_of.values(), *map("".join, ranks)])}
names = {i: s for s, i in vocabulary.items()}
# %%
@functools.lru_cache(None)
def encode_piece(piece):
    word = symbols(piece)
    while len(word) > 1:
        pair = min(zip(word, word[1:]), key=lambda p: ranks.get(p, 10**9))
        if pair not in ranks:
            break
        word = merge(word, pair)
    return [vocabulary[s] for s in word]
# %%
def encode(text):
    return [t for piece in PATTERN.findall(text) for t in encode_piece(piece)]
def decode(tokens):
    return bytes(byte_of[c] for t in tokens for c in names[t]).decode(errors="replace")
# %%
for text in ("low", "naïve", "a  b"):
    assert decode(encode(text)) == text
# %%
encode_piece.cache_info()
# %%
len(vocabulary), len(ranks)
# %%
%%serve_handler bpe --sample "lower and lowest"
def predict(batch):
    return [{"tokens": encode(t), "back": decode(encode(t)[:4]), "known": len(vocabulary)} for t in batch]
