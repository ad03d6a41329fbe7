# style: ambient
# about: a file beside the notebook that the handler opens by a relative path
# expect: refused: proof: the worker raised FileNotFoundError
# input: "a"
# input: "q"
# %%
import json
from pathlib import Path

Path("labels.json").write_text('{"a": "first", "b": "second"}')
# %%
LABELS = Path("labels.json")
# %%
def label(key):
    return json.loads(LABELS.read_text()).get(key, "none")
# %%
%%serve_handler labels --sample "a"
def predict(batch):
    return [label(key) for key in batch]
