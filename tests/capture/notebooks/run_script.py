# style: language
# about: %run of a script whose functions and data land in the notebook; a cell that writes it with %%writefile
# input: 4
# input: 9
# %%
%%writefile setup_model.py
import math

COEFFICIENTS = [0.5, 1.5, -2.0]

def polynomial(x):
    return sum(c * x**n for n, c in enumerate(COEFFICIENTS))

class Root:
    def __init__(self, degree):
        self.degree = degree

    def of(self, x):
        return math.copysign(abs(x) ** (1 / self.degree), x)

root = Root(3)
# %%
%run setup_model.py
# %%
polynomial(2)
# %%
%%serve_handler polynomial --sample 4
def predict(batch):
    return [{"p": polynomial(x), "r": root.of(polynomial(x))} for x in batch]
