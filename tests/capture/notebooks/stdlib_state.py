# style: values
# about: random.Random in mid-stream, compiled patterns with flags, Fractions, a string.Template, a Counter, ChainMap, deque with maxlen, heap, struct, textwrap, a Decimal context of one's own
# input: "Ab1"
# input: "zz9 zz"
# input: "ab cd 3"
# %%
import random, re, string, struct, collections, decimal, fractions, textwrap, heapq, bisect, statistics
dice = random.Random(5)
dice.random()
word = re.compile(r"(?P<w>[a-z]+) \d*", re.I | re.X)
# %%
page = string.Template("hi $name")
layers = collections.ChainMap({"a": 1}, collections.defaultdict(int, b=2))
last = collections.deque([1, 2, 3], maxlen=3)
pack = struct.Struct("<hf")
wrap = textwrap.TextWrapper(width=5)
ctx = decimal.Context(prec=4, rounding=decimal.ROUND_UP)
heap = [5, 1, 4]
heapq.heapify(heap)
normal = statistics.NormalDist(1, 2)
table = str.maketrans("ab", "xy")
# %%
%%serve_handler state --sample "Ab1"
def predict(batch):
    out = []
    for x in batch:
        last.append(len(x))
        out.append([dice.random(), [m["w"] for m in word.finditer(x)], page.substitute(name=x), layers["a"], layers["b"], list(last), pack.pack(3, 1.5).hex(), wrap.wrap(x * 2), str(ctx.divide(1, 3)), heap[0], normal.cdf(2), x.translate(table)])
    return out
