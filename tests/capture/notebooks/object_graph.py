# style: values
# about: instances of own classes with slots, __getstate__, __reduce__, __new__ with arguments, subclasses of builtins
# undetected: Interned.pool
# insensitive: Interned_pool
# input: "b"
# input: "zz"
# unreached: Trimmed.__getstate__, Interned.__getnewargs__, Money.__reduce__
# %%
class Vocabulary(dict):
    def __missing__(self, key):
        return self.unknown

    unknown = -1

class Names(list):
    label = "names"

class Word(str):
    def shout(self):
        return self.upper() + "!"
# %%
class Slotted:
    __slots__ = ("a", "b", "__weakref__")

    def __init__(self, a):
        self.a = a
# %%
class Trimmed:
    def __init__(self, data):
        self.data = data
        self.cache = {"big": list(range(1000))}

    def __getstate__(self):
        return {"data": self.data}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.cache = {}
# %%
class Interned:
    pool = {}

    def __new__(cls, name):
        if name not in cls.pool:
            made = super().__new__(cls)
            made.name = name
            cls.pool[name] = made
        return cls.pool[name]

    def __getnewargs__(self):
        return (self.name,)
# %%
class Money:
    def __init__(self, cents):
        self.cents = cents

    def __reduce__(self):
        return (Money, (self.cents,))
# %%
vocabulary = Vocabulary({"a": 0, "b": 1})
vocabulary.note = "kept"
names = Names(["x"])
names.extra = 1
word = Word("hey")
slotted, trimmed, interned, money = Slotted(3), Trimmed([1]), Interned("one"), Money(250)
# %%
%%serve_handler graph --sample "b"
def predict(batch):
    return [{"id": vocabulary[k], "note": vocabulary.note, "names": [list(names), names.extra, names.label], "word": word.shout(), "slot": slotted.a, "has": hasattr(slotted, "b"),
             "data": trimmed.data, "cache": len(trimmed.cache) <= 1000, "one": interned.name, "same": Interned("one") is interned, "cents": money.cents} for k in batch]
