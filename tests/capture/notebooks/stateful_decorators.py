# style: language
# about: decorators that register, count and keep what they saw; a class as decorator
# undetected: slow.seen
# input: "square"
# input: "cube"
# input: "nothing"
# %%
REGISTRY = {}

def register(name, **options):
    def decorate(function):
        REGISTRY[name] = (function, options)
        return function
    return decorate
# %%
class Counted:
    def __init__(self, function):
        self.function = function
        self.calls = 0

    def __call__(self, *args):
        self.calls += 1
        return self.function(*args)
# %%
@register("square", power=2)
def square(x):
    return x * x

@register("cube", power=3)
@Counted
def cube(x):
    return x * x * x
# %%
[cube(n) for n in range(4)]
# %%
def remember(function):
    seen = {}

    def inner(x):
        if x not in seen:
            seen[x] = function(x)
        return seen[x], len(seen)
    inner.seen = seen
    return inner

@remember
def slow(x):
    return x + 1000

slow(1), slow(2)
# %%
%%serve_handler registry --sample "square"
def predict(batch):
    answers = []
    for name in batch:
        if name not in REGISTRY:
            answers.append({"known": sorted(REGISTRY)})
            continue
        function, options = REGISTRY[name]
        answers.append({"y": function(5), "power": options["power"], "calls": cube.calls, "slow": slow(7)})
    return answers
