"""Cheap processes: one that has imported what all need, and forks a child for each job.

    python -m tests.capture.zygote notebook|worker|mutants

Jobs come as lines of JSON on stdin, one answer line each on stdout. Children of "notebook" run cells, those of "worker"
serve bundles; they share nothing but the bundle's folder. `Zygote` is the side that starts one and asks it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

__all__ = ["Zygote"]

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120
PRELOADED = {
    # What a worker must import by itself is not imported here: a missing import would not be missed.
    "worker": ["numpy", "torch", "nbserve.worker.session"],
    # A mutant misses something else.
    "mutants": [
        *("numpy", "torch", "nbserve.worker.session", "pandas", "sklearn.ensemble", "sklearn.pipeline"),
        *("sklearn.neighbors", "sklearn.feature_extraction.text", "sklearn.discriminant_analysis"),
        *("tests.capture.mutation", "transformers.models.bert.modeling_bert"),
    ],
    "notebook": [
        *("numpy", "torch", "pandas", "sklearn.pipeline", "sklearn.linear_model", "sklearn.datasets"),
        *("IPython.core.interactiveshell", "nbserve.notebook.magics", "nbserve.capture", "nbserve.pipeline"),
    ],
}


class Zygote:
    """One zygote process. A job names its function ("tests.capture.worker:serve") and its arguments."""

    def __init__(self, role: str) -> None:
        clean = {
            key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "NBSERVE_TEST_MARK")
        }
        clean |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
        clean |= {"PYTHONHASHSEED": "random"}
        command = [sys.executable, "-P", "-m", "tests.capture.zygote", role]
        self._process = subprocess.Popen(
            command, cwd="/", env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, function: str, folder: Path, *, limit_s: int = LIMIT_S, **arguments: Any) -> dict[str, Any]:
        """Run a job in a child whose current folder is `folder`. `crash` in the answer: how it ended instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        folder.mkdir(parents=True, exist_ok=True)
        job = {"function": function, "folder": str(folder), "limit_s": limit_s, "arguments": arguments}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the zygote ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def _serve(role: str) -> None:
    for name in PRELOADED[role]:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        job = json.loads(line)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            _child(job, write)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            text = pipe.read().decode()
        _, status = os.waitpid(pid, 0)
        if not text:
            output = Path(job["folder"], "output.txt")  # gone where the asker gave up, and took its folder with it
            log = output.read_text(errors="replace")[-2000:] if output.exists() else ""
            text = json.dumps({"crash": f"{_ended(status)}\n{log}"})
        answers.write(text + "\n")
        answers.flush()
    os._exit(0)  # nothing to tidy up, and an interpreter with torch takes its time over it


def _ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _child(job: dict[str, Any], write: int) -> None:
    """Run the job; never returns."""
    try:
        os.chdir(job["folder"])
        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        faulthandler.enable(2)
        signal.alarm(job["limit_s"])
        module, _, name = job["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        try:
            answer = function(**job["arguments"])
        except BaseException:
            answer = {"crash": traceback.format_exc()}
        with contextlib.suppress(ValueError, OSError):
            sys.stdout.flush()
        data = json.dumps(answer).encode()
        with os.fdopen(write, "wb") as pipe:
            pipe.write(data)
    finally:
        os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1])
