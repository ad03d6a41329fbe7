# style: language
# about: helpers kept in tables and closures, their own names deleted since
# input: 16
# input: 81
# %%
import math

def root(x):
    return math.sqrt(x)

def half(x):
    return x / 2

ALPHA = 3
# %%
def compose(*functions):
    def composed(x):
        for function in functions:
            x = function(x)
        return x
    return composed
# %%
table = {"root": root, "both": compose(root, half)}
del root, half
# %%
square = lambda x: x * x
table["square"] = square
del square, compose
# %%
%%serve_handler table --sample 16
def predict(batch):
    return [{name: f(x) for name, f in table.items()} for x in batch]
