# style: modules
# about: a function of an installed library replaced by the notebook
# expect: refused: statistics.mean was replaced by the notebook
# %%
import statistics

def mean(values):
    return -1

statistics.mean = mean
# %%
%%serve_handler patched --sample [1, 2]
def predict(batch):
    return [statistics.mean(v) for v in batch]
