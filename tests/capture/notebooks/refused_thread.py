# style: values
# about: a pool of threads and a queue made in the notebook
# expect: refused: predict -> pool
# %%
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(2)
# %%
def work(x):
    return x + 1
# %%
%%serve_handler pooled --sample 1
def predict(batch):
    return list(pool.map(work, batch))
