# style: language
# about: match, walrus, positional-only, star expressions, nested comprehensions with lambdas, f-strings with format specs
# input: {"kind": "circle", "r": 2}
# input: {"kind": "rect", "w": 2, "h": 3}
# input: [1, 2, 3, 4]
# input: 17
# %%
from fractions import Fraction

def area(shape, /, *, digits=3):
    match shape:
        case {"kind": "circle", "r": r}:
            return round(3.14159 * r * r, digits)
        case {"kind": "rect", **rest} if len(rest) == 2:
            w, h = rest.values()
            return w * h
        case [first, *_, last]:
            return first * last
        case int() | float() as number:
            return number
# %%
powers = {n: (lambda x, n=n: x**n) for n in range(4)}
grid = [[(lambda i=i, j=j: i * 10 + j) for j in range(2)] for i in range(2)]
ratio = Fraction(3, 7)
# %%
def spread(*args, scale=2, **kwargs):
    return [*(a * scale for a in args), *kwargs.items()]

def digits_of(n):
    found = []
    while (n := n // 2) > 0:
        found.append(n)
    return found
# %%
%%serve_handler shapes --sample {"kind": "circle", "r": 2}
def predict(batch):
    return [{"area": (a := area(s)), "powers": [f(2) for f in powers.values()], "grid": [[c() for c in row] for row in grid],
             "spread": spread(1, 2, k=3), "text": f"{a:>8.2f}|{ratio!s}|{a = }", "digits": digits_of(int(a))} for s in batch]
