# style: modules
# about: a module that reads a data file that lies beside it
# input: "b"
# input: "z"
# %%
import os
os.makedirs("tables", exist_ok=True)
# %%
%%writefile tables/codes.csv
a,1
b,2
# %%
%%writefile tables/__init__.py
import csv
from pathlib import Path

def code(name):
    with (Path(__file__).parent / "codes.csv").open() as file:
        return dict(csv.reader(file)).get(name)
# %%
import tables
# %%
%%serve_handler codes --sample "b"
def predict(batch):
    return [tables.code(name) for name in batch]
