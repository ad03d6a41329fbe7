# style: modules
# about: a package with subpackages, relative imports, data in __init__ and a class whose instance is a value
# input: [1.0, 2.0]
# input: [0.0, 3.0]
# %%
import os
os.makedirs("shop/models", exist_ok=True)
# %%
%%writefile shop/__init__.py
from .pricing import VAT, gross

__all__ = ["VAT", "gross"]
# %%
%%writefile shop/pricing.py
VAT = 0.19

def gross(net):
    from . import rounding
    return rounding.cents(net * (1 + VAT))
# %%
%%writefile shop/rounding.py
def cents(x):
    return round(x, 2)
# %%
%%writefile shop/models/__init__.py
# models
# %%
%%writefile shop/models/linear.py
import numpy as np

from ..pricing import gross
from ..rounding import cents

class Linear:
    def fit(self, X, y):
        self.w = np.linalg.lstsq(X, y, rcond=None)[0]
        return self

    def predict(self, x):
        return gross(cents(float(np.dot(self.w, x))))
# %%
import numpy as np
import shop.models.linear as linear
from shop import VAT
# %%
model = linear.Linear().fit(np.array([[1.0, 0], [0, 1.0], [1, 1]]), np.array([1.0, 2.0, 3.0]))
# %%
%%serve_handler shop --sample [1.0, 2.0]
def predict(batch):
    return [{"price": model.predict(x), "vat": VAT} for x in batch]
