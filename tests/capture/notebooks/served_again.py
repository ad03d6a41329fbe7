# style: exploratory
# about: two endpoints in one notebook, the first served again after its helper was changed; guards on __name__, asserts, displays and questions between
# input: 5
# input: -2
# %%
import math
SCALE = 2
# %%
def helper(x):
    return x * SCALE
# %%
helper?
# %%
%%serve_handler first --sample 5
def predict(batch):
    return [helper(x) for x in batch]
# %%
assert helper(2) == 4
helper(3)
# %%
if __name__ == "__main__":
    SCALE = 10
    def helper(x, power=2):
        return math.copysign(abs(x) ** power, x) + SCALE
# %%
from IPython.display import display, Markdown
display(Markdown("**now** with powers")); _
# %%
note = _
print(Out[6] if 6 in Out else "nothing")
# %%
%env SCALE_OF=10
%precision 3
limits = !echo 3
# %%
def clip(x, limits=(-50, 50)):
    low, high = limits
    return max(low, min(high, x))
# %%
%%serve_handler second --sample 5
def predict(batch):
    return [clip(helper(x)) for x in batch]
