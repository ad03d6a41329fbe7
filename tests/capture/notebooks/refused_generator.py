# style: values
# about: a generator in mid-stream
# expect: refused: predict -> numbers
# %%
numbers = (n * n for n in range(100))
next(numbers)
# %%
%%serve_handler numbers --sample 1
def predict(batch):
    return [next(numbers) for _ in batch]
