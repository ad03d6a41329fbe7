# style: ambient
# about: the recursion limit raised, a folder of modules put on sys.path
# input: 50
# input: 2000
# %%
import os
import sys

sys.setrecursionlimit(5000)
# %%
os.makedirs("lib", exist_ok=True)
with open("lib/deep.py", "w") as file:
    file.write("def depth(n):\n    return 0 if n == 0 else 1 + depth(n - 1)\n")
sys.path.insert(0, "lib")
# %%
import deep
import numpy as np
# %%
%%serve_handler depth --sample 50
def predict(batch):
    return [[deep.depth(n), int(np.log2(n))] for n in batch]
