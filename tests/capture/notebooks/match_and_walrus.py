# style: language
# about: match statements on classes, mappings and guards, walrus in comprehensions, star expressions, positional-only arguments
# input: {"kind": "circle", "r": 2}
# input: {"kind": "poly", "points": [[0, 0], [1, 0], [1, 1]]}
# input: [1, 2, 3]
# %%
from dataclasses import dataclass
@dataclass
class Circle:
    r: float
    __match_args__ = ("r",)
UNIT = 1
class Codes:
    OK = 200
# %%
def read(x):
    match x:
        case {"kind": "circle", "r": r} if r > UNIT:
            return Circle(r)
        case {"kind": "poly", "points": [first, *rest], **others}:
            return [first, len(rest), others]
        case [a, b, *_] | (a, b):
            return (a, b)
# %%
def show(thing, /, *, tail=()):
    match thing:
        case Circle(r):
            return ["circle", r, Codes.OK]
        case (int() as a, b):
            return ["pair", a, b]
        case list():
            return [*thing, *tail]
# %%
kept = [y for x in range(6) if (y := x * x) % 2]
# %%
%%serve_handler shapes --sample {"kind": "circle", "r": 2}
def predict(batch):
    return [[show(read(x), tail=kept), (n := len(kept)) + n] for x in batch]
