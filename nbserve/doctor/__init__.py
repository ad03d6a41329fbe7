"""`nbserve doctor`: what this machine offers for serving, and what is wrong with it.

`read_machine` (reader.py) takes a snapshot; `diagnose`, which is pure, judges it, here or where it was recorded. Called
by the verb `doctor`. torch is not imported: versions come from what is installed.
"""

from __future__ import annotations

from nbserve.doctor.diagnosis import Diagnosis, diagnose
from nbserve.doctor.machine import Machine
from nbserve.doctor.reader import read_machine

__all__ = ["Diagnosis", "Machine", "diagnose", "read_machine"]
