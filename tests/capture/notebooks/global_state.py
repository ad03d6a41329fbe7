# style: language
# about: functions that write globals with `global`, closures with nonlocal: each worker counts for itself
# insensitive: history
# input: 5
# input: 7
# %%
calls = 0
last = None
history = []

def note(x):
    global calls, last
    calls += 1
    last, previous = x, last
    history.append(x)
    return previous
# %%
note(1)
note(2)
# %%
def counter(start):
    def step():
        nonlocal start
        start += 1
        return start
    return step

tick = counter(10)
tick()
# %%
%%serve_handler state --sample 5
def predict(batch):
    return [{"previous": note(x), "calls": calls, "tick": tick(), "n": len(history), "last": last} for x in batch]
