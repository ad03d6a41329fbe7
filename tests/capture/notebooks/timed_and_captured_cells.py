# style: language
# about: bodies of %%time, %%capture and %%timeit; line magics and shell lines among the code
# input: 3
# input: 40
# %%
%%time
import numpy as np

def basis(n):
    return np.cos(np.arange(n))
# %%
%%capture out
print("hidden")

class Table:
    rows = basis(5)

    def at(self, i):
        return float(self.rows[i % len(self.rows)])

scale = 1.5
# %%
%matplotlib inline
%time total = float(Table.rows.sum())
%env MY_SETTING=7
!echo shell > shell.txt
names = !cat shell.txt
value = %env MY_SETTING

def both(i):
    return Table().at(i) * scale + total
# %%
%%time
%%capture
def shifted(i):
    return both(i) + int(value)
# %%
%%timeit -n1 -r1
sum(range(3))
# %%
%%serve_handler timed --sample 3
def predict(batch):
    return [[shifted(i), list(names)] for i in batch]
