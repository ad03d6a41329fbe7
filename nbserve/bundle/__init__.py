"""The folder that is served: written by capture in the notebook, read by the gateway and the workers.

`Bundle.open` reads a folder, `Bundle.load` runs it; `open_values` is what a bundle's own `handler.py` calls.
Imports without torch; torch, numpy and transformers load where a value needs them.
"""

from __future__ import annotations

from nbserve.bundle.folder import Bundle, Loaded
from nbserve.bundle.proof import Difference, Sample, compare
from nbserve.bundle.values import open_values

__all__ = ["Bundle", "Difference", "Loaded", "Sample", "compare", "open_values"]
