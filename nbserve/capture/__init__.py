"""Live objects of a notebook -> a bundle. Runs in the user's kernel.

`capture` walks from the handler to everything it refers to; `Captured.write` makes the folder; `run_sample` asks the
handler in the notebook, so that workers can be compared with it; `Cells` knows which cell wrote what.
"""

from __future__ import annotations

from nbserve.capture.captured import Captured, Entry, capture
from nbserve.capture.cells import Cells
from nbserve.capture.explain import explain
from nbserve.capture.proof import run_sample

__all__ = ["Captured", "Cells", "Entry", "capture", "explain", "run_sample"]
