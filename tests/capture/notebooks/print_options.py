# style: ambient
# about: numpy print options, decimal context and pandas options that change text answers
# input: 3
# input: 7
# %%
import decimal

import numpy as np
import pandas as pd

np.set_printoptions(precision=2, suppress=True)
decimal.getcontext().prec = 6
pd.set_option("display.precision", 1)
# %%
table = pd.DataFrame({"a": [1.23456, 2.0]})
# %%
%%serve_handler text --sample 3
def predict(batch):
    return [{"np": str(np.array([1 / n, 100.0])), "d": str(decimal.Decimal(1) / n), "pd": table.to_string()} for n in batch]
