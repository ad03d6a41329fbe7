# style: language
# about: lambdas in dicts and defaults, functions renamed and rebound (f = g; del g), decorators with arguments that close over a model, recursion through a rebound name
# input: 3.0
# input: -1.0
# %%
import torch
torch.manual_seed(0)
model = torch.nn.Linear(1, 1).requires_grad_(False)
# %%
def scaled(by, using=model):
    def wrap(f):
        def inner(x, *, extra=lambda y: y + by):
            return f(extra(x)) * using(torch.tensor([x])).item()
        return inner
    return wrap
# %%
@scaled(2)
def g(x):
    return x * 3
f = g
del g
# %%
def fact(n):
    return 1 if n < 2 else n * fact(n - 1)
factorial = fact
def fact(n):
    return -1
ops = {"neg": lambda x: -x, "pow": lambda x, p=2: x ** p, "f": f}
# %%
%%serve_handler lambdas --sample 3.0
def predict(batch):
    return [[f(x), {k: op(x) for k, op in ops.items()}, factorial(3), fact(3)] for x in batch]
