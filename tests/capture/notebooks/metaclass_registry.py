# style: language
# about: a metaclass that changes classes, and __init_subclass__ with keywords that collects them
# undetected: Plugin.known
# input: "relu"
# input: "soft"
# input: "none"
# %%
class Upper(type):
    def __new__(mcls, name, bases, namespace, suffix=""):
        made = super().__new__(mcls, name, bases, {k: v for k, v in namespace.items()})
        made.label = name.upper() + suffix
        return made

    def __len__(cls):
        return len(cls.label)
# %%
class Plugin:
    known = {}

    def __init_subclass__(cls, key=None, **kwargs):
        super().__init_subclass__(**kwargs)
        if key:
            Plugin.known[key] = cls

    def __call__(self, x):
        return x
# %%
class Relu(Plugin, key="relu"):
    def __call__(self, x):
        return max(0.0, x)

class Soft(Plugin, key="soft"):
    sharpness = 2.0

    def __call__(self, x):
        return x / (1 + abs(x)) * self.sharpness
# %%
class Badge(metaclass=Upper, suffix="!"):
    pass
# %%
%%serve_handler plugins --sample "relu"
def predict(batch):
    answers = []
    for key in batch:
        found = Plugin.known.get(key, Plugin)
        answers.append([found.__name__, found()(-3.0), found()(3.0), sorted(Plugin.known), Badge.label, len(Badge)])
    return answers
