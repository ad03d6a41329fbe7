# style: language
# about: from x import *, import a.b as c, import a.b, renamed imports, a submodule that nobody imported by name
# undetected: collections, collections.abc, _numpy_fft, urllib, urllib.parse
# input: 0.5
# input: 1.0
# %%
from math import *
from statistics import *
# %%
import os.path as p
import xml.etree.ElementTree as ET
import collections.abc
import urllib.parse
import numpy.linalg as LA, numpy as np
from datetime import datetime as dt, timedelta
from json import dumps as to_text
# %%
def area(r):
    return pi * r**2

def shape_of(r):
    root = ET.fromstring(f"<circle r='{r}'/>")
    return root.tag, float(root.get("r"))
# %%
%%serve_handler circle --sample 0.5
def predict(batch):
    return [{"area": area(r), "sin": sin(r), "mean": mean([r, 1]), "shape": shape_of(r), "norm": float(LA.norm([r, r])),
             "name": p.basename("/a/b.txt"), "q": urllib.parse.quote("a b"), "seq": isinstance([r], collections.abc.Sequence),
             "day": str(dt(2024, 1, 1) + timedelta(days=r)), "text": to_text({"r": r}), "fft": float(np.fft.fft([r, 0]).real[0])}
            for r in batch]
