# insensitive: deep, start, utc, counts
# style: values
# about: datetimes with zones, Decimal, Fraction, Path, UUID, ranges, slices, complex, bytes, deep nesting, odd keys
# input: 3
# input: 0
# %%
import datetime as dt
import uuid
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_network
from pathlib import Path, PurePosixPath
from zoneinfo import ZoneInfo
# %%
start = dt.datetime(2024, 3, 31, 1, 30, tzinfo=ZoneInfo("Europe/Berlin"))
utc = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
step = dt.timedelta(hours=1, microseconds=5)
price = Decimal("19.990")
third = Fraction(1, 3)
place = PurePosixPath("data") / "model.bin"
home = Path("relative/folder")
key = uuid.UUID("12345678-1234-5678-1234-567812345678")
# %%
odd = {(1, 2): "pair", None: "none", 2.5: "float", True: "bool", frozenset({1}): "set", b"x": "bytes"}
counts = Counter("mississippi")
queue = deque([1, 2, 3], maxlen=3)
groups = defaultdict(list, {"a": [1]})
order = OrderedDict([("z", 1), ("a", 2)])
layers = ChainMap({"a": 1}, {"a": 2, "b": 3})
# %%
class Config(UserDict):
    def __missing__(self, key):
        return f"default {key}"

config = Config(lr=0.1)
deep = []
for level in range(30):
    deep = [deep, level]
values = [range(2, 20, 3), slice(1, None, 2), 1 + 2j, float("inf"), -0.0, 10**40, "\ud83d \x00", b"\x00\xff", bytearray(b"ab"), ...]
network = ip_network("10.0.0.0/8")
# %%
%%serve_handler zoo --sample 3
def predict(batch):
    answers = []
    for n in batch:
        queue.append(n)
        groups["new"].append(n)
        level, inner = 0, deep
        while inner:
            inner, level = inner[0], level + 1
        answers.append({"day": (start + n * step).isoformat(), "utc": str(utc), "price": str(price * n), "third": str(third + n), "place": str(place), "home": home.as_posix(),
                        "key": str(key), "odd": sorted(map(str, odd)), "got": odd[(1, 2)], "top": counts.most_common(1), "q": list(queue), "g": dict(groups), "order": list(order),
                        "layers": [layers["a"], layers["b"]], "config": [config["lr"], config["x"]], "level": level, "v": [repr(v) for v in values],
                        "in": ip_address("10.1.2.3") in network})
    return answers
