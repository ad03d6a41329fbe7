"""Twenty new versions in a minute under load, every fifth of which fails before it may take traffic."""

from __future__ import annotations

import asyncio
import random
import time

from tests.faults.handlers import LOAD_FAULTS
from tests.faults.result import Run, count
from tests.faults.row import Row, steady
from tests.faults.stage import Stage
from tests.faults.traffic import Record

__all__ = ["Swap"]

SWAPS = 20
SECONDS = 60.0
FAIL_EVERY = 5
OLD_ANSWERS_S = 1.0


class Swap(Row):
    """As re-running the cell does. The failing ones are one of each of LOAD_FAULTS."""

    name = "swap"
    fault = f"{SWAPS} swaps in {SECONDS:g} s; {SWAPS // FAIL_EVERY} of them fail: {', '.join(LOAD_FAULTS)}"
    must = f"0 failed; no old answer later than {OLD_ANSWERS_S:g} s after its switch"
    back = "the last answer of an old version, after the switch"
    limit_s = 180.0

    async def prepare(self, stage: Stage) -> None:
        """Version 0."""
        await stage.serve(stage.bundle(version=0), workers=1, threads=1)

    async def run(self, stage: Stage, rng: random.Random) -> Run:
        """Register twenty bundles, one every three seconds."""
        first = 1 + await self._serving(stage)
        traffic = steady(stage, rng)
        switches: dict[int, float] = {}
        wrongly: list[str] = []
        began_s = time.monotonic()
        for number in range(SWAPS):
            await asyncio.sleep(max(0.0, began_s + number * SECONDS / SWAPS - time.monotonic()))
            fault = LOAD_FAULTS[number // FAIL_EVERY % len(LOAD_FAULTS)] if number % FAIL_EVERY == 2 else ""
            version = first + number
            bundle = await asyncio.to_thread(stage.bundle, version=version, fault=fault)
            reply = await stage.register(bundle, workers=1, threads=1)
            if reply.status == 200:
                switches[version] = time.monotonic()
            if (reply.status == 200) is bool(fault):
                wrongly.append(f"version {version} ({fault or 'sound'}): {reply.status} {reply.body.decode()[:200]}")
        took_s = time.monotonic() - began_s
        await asyncio.sleep(OLD_ANSWERS_S + 0.2)
        records = await traffic.stop()
        run = count(records, stage.executions.twice())
        run.figures |= {"took_s": took_s, "swaps": len(switches), "reconnects": traffic.reconnects}
        for text in wrongly:
            run.must(False, text)
        run.must(took_s <= SECONDS + SECONDS / SWAPS, f"{SWAPS} swaps took {took_s:.0f} s")
        run.back_after_s = _last_old_answer(records, switches)
        run.must(
            run.back_after_s <= OLD_ANSWERS_S, f"an old version answered {run.back_after_s:.2f} s after the switch"
        )
        known = {record.version for record in records if record.right} - set(switches) - {first - 1}
        run.must(not known, f"versions {sorted(known)} answered, which were refused")
        return run

    async def _serving(self, stage: Stage) -> int:
        """Which version of the code answers now."""
        traffic = stage.traffic(random.Random(0))
        record = await traffic.one()
        await traffic.stop()
        return record.version


def _last_old_answer(records: list[Record], switches: dict[int, float]) -> float:
    """The worst of: seconds from a switch to the last answer of any version before it."""
    worst = 0.0
    for version, replied_s in switches.items():
        answers = [record for record in records if record.right]
        switched_s = min([replied_s, *(one.answered_s for one in answers if one.version == version)])
        last_s = max((one.answered_s for one in answers if one.version < version), default=0.0)
        worst = max(worst, last_s - switched_s)
    return worst
