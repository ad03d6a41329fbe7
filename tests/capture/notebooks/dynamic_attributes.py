# style: language
# about: __getattr__, __call__, __contains__, types.SimpleNamespace, setattr in loops, type() with three arguments
# input: "colour"
# input: "missing"
# unreached: Settings.__setattr__
# %%
from types import MappingProxyType, SimpleNamespace

config = SimpleNamespace(lr=0.1, layers=[8, 4], nested=SimpleNamespace(deep="yes"))
# %%
class Settings:
    def __init__(self, **values):
        self.__dict__["_values"] = values

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            return f"no {name}"

    def __setattr__(self, name, value):
        self._values[name] = value

    def __contains__(self, name):
        return name in self._values

settings = Settings(colour="red")
settings.size = 3
# %%
class Plain:
    pass

for number, name in enumerate(["alpha", "beta"]):
    setattr(Plain, name, number * 10)
# %%
Made = type("Made", (Plain,), {"gamma": 7})
frozen = MappingProxyType({"k": 1})
# %%
%%serve_handler settings --sample "colour"
def predict(batch):
    return [{"value": getattr(settings, name), "in": name in settings, "size": settings.size, "lr": config.lr, "deep": config.nested.deep,
             "made": [Made.alpha, Made.beta, Made.gamma], "k": frozen["k"]} for name in batch]
