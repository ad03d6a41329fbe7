"""The load generator: wrk with a script written for each run, and its figures as data."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Load", "cores_for_load", "load"]

SCRIPT = """\
local bodies = {%(bodies)s}
local requests = {}
local turn = 0

function init(args)
  local headers = {["Content-Type"] = "application/json", ["Authorization"] = "Bearer %(token)s"}
  for place, body in ipairs(bodies) do requests[place] = wrk.format("POST", nil, headers, body) end
end

function request()
  turn = turn %% #requests + 1
  return requests[turn]
end

function done(summary, latency, rates)
  local errors = summary.errors
  io.write(string.format(
    '\\nFIGURES {"requests": %%d, "duration_us": %%d, "p50_us": %%d, "p99_us": %%d, "max_us": %%d, ' ..
    '"bad_status": %%d, "broken": %%d, "timeouts": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect + errors.read + errors.write, errors.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw."""

    requests: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: int
    """Statuses other than 2xx and 3xx, broken connections, timeouts."""

    @property
    def requests_per_s(self) -> float:
        """Completed requests, errors included, per second."""
        return self.requests / self.duration_s


def load(
    url: str, token: str, bodies: Sequence[bytes], *, connections: int, seconds: float, cores: Collection[int] = ()
) -> Load:
    """Keep `connections` requests in flight for so many seconds (whole ones: wrk's), on these cores where given."""
    script = SCRIPT % {"bodies": ", ".join(_lua_string(body) for body in bodies), "token": token}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "load.lua"
        path.write_text(script)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
        if cores:
            command = ["taskset", "-c", ",".join(map(str, sorted(cores))), *command]
        done = subprocess.run([*command, "-s", str(path), url], capture_output=True, text=True, check=True)
    figures = next(line for line in done.stdout.splitlines() if line.startswith("FIGURES "))
    return parse(json.loads(figures.removeprefix("FIGURES ")))


def parse(figures: dict[str, int]) -> Load:
    """wrk's own numbers -> Load."""
    return Load(
        requests=figures["requests"],
        duration_s=figures["duration_us"] / 1e6,
        p50_ms=figures["p50_us"] / 1e3,
        p99_ms=figures["p99_us"] / 1e3,
        max_ms=figures["max_us"] / 1e3,
        errors=figures["bad_status"] + figures["broken"] + figures["timeouts"],
    )


def cores_for_load(workers: Collection[int]) -> set[int]:
    """One core for wrk that no worker is pinned to and that leaves another for the gateway; none where that fails."""
    free = os.sched_getaffinity(0) - set(workers)
    return {max(free)} if len(free) >= 2 else set()


def _lua_string(body: bytes) -> str:
    plain = set(range(32, 127)) - set(b'"\\')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03d}" for byte in body) + '"'
