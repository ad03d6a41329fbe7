# style: language
# about: functions made in a loop close over its variable: all see the last value, those with a default their own
# input: 3
# input: -1.5
# %%
scalers = []
for factor in (1, 10, 100):
    scalers.append(lambda x: x * factor)
own = [lambda x, f=f: x * f for f in (1, 10, 100)]
# %%
def make(offset):
    def add(x):
        return x + offset
    return add

adders = [make(k) for k in range(3)]
# %%
%%serve_handler loops --sample 3
def predict(batch):
    return [[s(x) for s in scalers] + [o(x) for o in own] + [a(x) for a in adders] for x in batch]
