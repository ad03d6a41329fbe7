# style: language
# about: cells run from below to above and one of them twice
# order: 3 4 1 2 1 5
# input: [1.0, 2.0, 3.0]
# input: [0.0, -4.0]
# %%
shift = shift + 1 if "shift" in dir() else 10
# %%
def centre(values):
    return [value - mean(values) + shift for value in values]
# %%
def mean(values):
    return sum(values) / len(values)
# %%
def mean_of_squares(values):
    return mean([value**2 for value in values])
# %%
%%serve_handler centre --sample [1.0, 2.0, 3.0]
def predict(batch):
    return [{"centred": centre(values), "power": mean_of_squares(values)} for values in batch]
