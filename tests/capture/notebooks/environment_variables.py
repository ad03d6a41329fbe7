# style: ambient
# about: environment variables that the notebook set and the handler reads
# input: 1
# input: 2
# %%
import os
os.environ["MODEL_MODE"] = "careful"
# %%
def mode():
    return os.environ.get("MODEL_MODE", "default")
# %%
%%serve_handler modes --sample 1
def predict(batch):
    return [{"mode": mode(), "again": os.getenv("MODEL_MODE"), "x": x} for x in batch]
