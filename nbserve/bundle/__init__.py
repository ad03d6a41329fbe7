"""The folder that is served: written by capture in the notebook, read by the gateway and the workers.

`Bundle.open` reads a folder, `Bundle.load` runs it; `open_values` and `ambient` are what a bundle's own `handler.py`
calls.
Imports without torch; torch, numpy and transformers load where a value needs them.
"""

from __future__ import annotations

from nbserve.bundle.ambient import ambient
from nbserve.bundle.folder import Bundle, Loaded
from nbserve.bundle.proof import Difference, Sample, compare
from nbserve.bundle.values import open_values

__all__ = ["Bundle", "Difference", "Loaded", "Sample", "ambient", "compare", "open_values"]
