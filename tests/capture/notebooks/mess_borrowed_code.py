# style: exploratory
# about: snippets pasted from everywhere: a timer decorator, a singleton, an LRU of one's own, a retry, an event bus, a tiny parser
# undetected: OrderedDict, evaluate_2.__doc__, evaluate_2.__qualname__, evaluate_2.__name__, evaluate_2.__wrapped__, evaluate.__doc__, evaluate.__qualname__, evaluate.__name__, evaluate.__wrapped__, evaluate.last
# insensitive: log, lru
# input: "1 + 2 * (3 - 1)"
# input: "2 ^ 3"
# input: "2 ^ 3"
# input: "("
# unreached: Singleton.__call__
# %%
import functools, operator, re, time
from collections import OrderedDict, defaultdict
# %%
def timer(fn):
    @functools.wraps(fn)
    def wrap(*a, **k):
        t = time.perf_counter()
        try:
            return fn(*a, **k)
        finally:
            wrap.last = time.perf_counter() - t
    return wrap
# %%
class Singleton(type):
    _instances = {}

    def __call__(cls, *args, **kwargs):
        if cls not in cls._instances:
            cls._instances[cls] = super().__call__(*args, **kwargs)
        return cls._instances[cls]
# %%
class Settings(metaclass=Singleton):
    def __init__(self):
        self.depth = 20
# %%
Settings().depth = 9
# %%
class LRU:
    def __init__(self, n):
        self.n, self.d = n, OrderedDict()

    def get(self, key, make):
        if key in self.d:
            self.d.move_to_end(key)
        else:
            self.d[key] = make(key)
            if len(self.d) > self.n:
                self.d.popitem(last=False)
        return self.d[key]
# %%
lru = LRU(1)
lru.get("1", len)
# %%
def retry(times, on=(ValueError,)):
    def deco(fn):
        @functools.wraps(fn)
        def inner(*args):
            for left in reversed(range(times)):
                try:
                    return fn(*args)
                except on:
                    if not left:
                        raise
        return inner
    return deco
# %%
bus = defaultdict(list)
def on(event):
    return lambda fn: bus[event].append(fn) or fn
# %%
log = []
@on("parsed")
def remember(tree):
    log.append(tree)
    return len(log)
# %%
OPS = {"+": (1, operator.add), "-": (1, operator.sub), "*": (2, operator.mul), "/": (2, operator.truediv), "^": (3, operator.pow)}
TOKEN = re.compile(r"\s*(?:(\d+\.?\d*)|(.))")
# %%
def tokens(text):
    return [float(n) if n else op for n, op in TOKEN.findall(text)]
# %%
class Parser:
    def __init__(self, text):
        self.toks, self.depth = tokens(text), 0

    def atom(self):
        if not self.toks:
            raise ValueError("more was expected")
        tok = self.toks.pop(0)
        if tok == "(":
            value = self.expr()
            self.toks.pop(0)
            return value
        return tok

    def expr(self, level=1):
        left = self.atom()
        while self.toks and self.toks[0] in OPS and OPS[self.toks[0]][0] >= level:
            rank, fn = OPS[self.toks.pop(0)]
            left = fn(left, self.expr(rank + 1))
        return left
# %%
@timer
@retry(2)
def evaluate(text):
    value = Parser(text).expr()
    for fn in bus["parsed"]:
        fn(value)
    return value
# %%
evaluate("1+1")
# %%
%%serve_handler calculator --sample "1 + 2 * (3 - 1)"
def predict(batch):
    return [{"v": lru.get(t, evaluate), "n": len(log), "depth": Settings().depth, "cached": list(lru.d), "timed": evaluate.last > 0} for t in batch]
