# style: modules
# about: attributes of a local module set by the notebook after the import: values that no file has
# expect: refused: settings.py is not what is loaded
# %%
%%writefile settings.py
THRESHOLD = 1
LABELS = ["no", "yes"]

def label(x):
    return LABELS[int(x > THRESHOLD)]
# %%
import settings
settings.THRESHOLD = 5
# %%
%%serve_handler labels --sample 2
def predict(batch):
    return [settings.label(x) for x in batch]
