# style: language
# about: a proxy by __getattr__ and __setattr__ with __slots__, descriptors with __set_name__, __missing__, __class_getitem__
# input: 2.0
# input: -1.5
# insensitive: watched
# %%
class Positive:
    def __set_name__(self, owner, name):
        self.name = "_" + name
    def __get__(self, obj, owner=None):
        return self if obj is None else getattr(obj, self.name, 1.0)
    def __set__(self, obj, value):
        setattr(obj, self.name, abs(value))
# %%
class Gauge:
    __slots__ = ("_level", "_limit", "__weakref__")
    level = Positive()
    limit = Positive()
    def __init__(self, level, limit):
        self.level = level
        self.limit = limit
# %%
class Proxy:
    __slots__ = ("_target", "calls")
    def __init__(self, target):
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "calls", 0)
    def __getattr__(self, name):
        return getattr(object.__getattribute__(self, "_target"), name)
    def __setattr__(self, name, value):
        setattr(object.__getattribute__(self, "_target"), name, value)
gauge = Gauge(-3.0, -4.0)
watched = Proxy(gauge)
# %%
class Defaults(dict):
    def __missing__(self, key):
        return key * 2
    def __class_getitem__(cls, item):
        return f"{cls.__name__}[{item}]"
table = Defaults(a=1)
# %%
%%serve_handler proxies --sample 2.0
def predict(batch):
    out = []
    for x in batch:
        watched.level = x
        out.append([watched.level, gauge.level, watched.limit, table["a"], table["b"], Defaults["x"], watched._target is gauge, watched.calls])
    return out
