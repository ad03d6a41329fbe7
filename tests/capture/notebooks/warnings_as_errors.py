# style: ambient
# about: warnings made into errors, which a helper catches
# input: 60
# input: 50
# %%
import warnings

import numpy as np

warnings.filterwarnings("error", category=RuntimeWarning)
# %%
def safe_log(x):
    try:
        return float(np.log(np.array([x - 50.0]))[0])
    except RuntimeWarning as warning:
        return str(warning)
# %%
%%serve_handler logs --sample 60
def predict(batch):
    return [safe_log(n) for n in batch]
