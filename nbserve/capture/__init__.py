"""Live objects of a notebook -> a bundle. Runs in the user's kernel.

`capture` walks from the handler to everything it refers to; `Captured.write` makes the folder; `run_sample` asks the
handler in the notebook, so that workers can be compared with it; `Cells` knows which cell wrote what;
`Snapshot` whether what was captured is still what is live.
"""

from __future__ import annotations

from nbserve.capture.captured import Captured, Entry, capture
from nbserve.capture.cells import Cells
from nbserve.capture.proof import run_sample
from nbserve.capture.requirements import imported_meanwhile
from nbserve.capture.snapshot import Snapshot

__all__ = ["Captured", "Cells", "Entry", "Snapshot", "capture", "imported_meanwhile", "run_sample"]
