"""One notebook of the corpus from its cells to the verdict: served as it answered in the notebook, or refused.

Used by the tests and by the report.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbserve.bundle import Sample, compare
from tests.capture.corpus import Notebook
from tests.capture.zygote import Zygote

__all__ = ["Outcome", "Processes", "differences", "play", "serve", "served_as", "wrong_with"]


@dataclass
class Processes:
    """The two zygotes. Children of one know nothing of those of the other."""

    notebook: Zygote = field(default_factory=lambda: Zygote("notebook"))
    worker: Zygote = field(default_factory=lambda: Zygote("worker"))

    _mutants: list[Zygote] = field(default_factory=list)

    @property
    def mutants(self) -> Zygote:
        """A third, made when it is asked for."""
        if not self._mutants:
            self._mutants.append(Zygote("mutants"))
        return self._mutants[0]

    def close(self) -> None:
        for each in [self.notebook, self.worker, *self._mutants]:
            each.close()


@dataclass
class Outcome:
    """verdict: served | live only | refused | broken notebook | wrong answer. text: why."""

    verdict: str
    text: str = ""
    bundle: Path | None = None
    entries: list[list[Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    live_only: bool = False
    answers: list[dict[str, Any]] = field(default_factory=list)
    unreached: dict[str, list[int]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What was captured, in all."""
        return sum(entry[3] for entry in self.entries)


def play(notebook: Notebook, processes: Processes, folder: Path) -> Outcome:
    """Run the cells in one process, serve the bundle in another, compare all answers."""
    cells = [{"source": cell.source, "fails": cell.fails} for cell in notebook.runs()]
    ran = processes.notebook.run(
        "tests.capture.session:run_notebook", folder / "notebook", cells=cells, inputs=list(notebook.inputs)
    )
    if "crash" in ran or "broken" in ran:
        return Outcome("broken notebook", str(ran.get("crash") or ran.get("broken")))
    if "refused" in ran:
        why = ran["refused"]
        return Outcome("refused", f"{why['type']}: {why['message']} | {why['hint']}")
    return served_as(ran, processes, folder / "worker")


def served_as(ran: dict[str, Any], processes: Processes, folder: Path) -> Outcome:
    """The verdict on what a notebook gave (`session.collected`)."""
    outcome = Outcome(
        "served",
        bundle=Path(ran["bundle"]),
        entries=ran["entries"],
        warnings=ran["warnings"],
        live_only=ran["live_only"],
        answers=ran["answers"],
    )
    served = serve(outcome, processes, folder)
    outcome.verdict, outcome.text, number = differences(outcome.answers, served)
    if number == 1:  # the sample's: the proof finds it before the endpoint takes traffic
        outcome.verdict, outcome.text = "refused", f"proof: {outcome.text}"
    if outcome.verdict == "served" and outcome.live_only:
        outcome.verdict = "live only"
    outcome.unreached = served.get("unreached", {})
    return outcome


def wrong_with(notebook: Notebook, outcome: Outcome) -> str:
    """What is not as the notebook's header says; "" for nothing."""
    if outcome.verdict != notebook.expect:
        return f"{outcome.verdict}, not {notebook.expect}: {outcome.text} {outcome.warnings or ''}"
    if notebook.reason not in outcome.text:
        return f"refused with other words than {notebook.reason!r}: {outcome.text}"
    # Constructors of captured values do not run: values are restored.
    made = [name for name in outcome.unreached if ".__init__" in name or ".__post_init__" in name]
    if left := sorted(outcome.unreached.keys() - notebook.unreached - set(made)):
        return f"lines that no input reaches: { {name: outcome.unreached[name] for name in left} }"
    return ""


def serve(outcome: Outcome, processes: Processes, folder: Path, *, trace: bool = True) -> dict[str, Any]:
    """The bundle's answers to the outcome's questions, from a process that never saw the notebook."""
    half = outcome.answers[: len(outcome.answers) // 2]
    questions = [[answer["question"], answer["question_type"]] for answer in half]
    return processes.worker.run(
        "tests.capture.worker:serve", folder, bundle=str(outcome.bundle), questions=questions, trace=trace
    )


def differences(expected: list[dict[str, Any]], served: dict[str, Any]) -> tuple[str, str, int]:
    """("served", "", 0) where the worker answers as the notebook did; else verdict, difference, which answer."""
    if "crash" in served:
        return "refused", f"proof: the bundle does not load: {served['crash']}", 0
    for number, (here, there) in enumerate(zip(expected, served["answers"], strict=True), 1):
        if here["error"] != there["error"]:
            what = f"the worker raised {there['error'][0]}: {there['error'][1]}" if there["error"] else "no error"
            return "wrong answer", f"{what} (the notebook: {here['error']}), answer {number}", number
        if here["error"] is not None:
            continue
        sample = Sample(
            content_type="application/json",
            body=b"null",
            expected_content_type=here["type"],
            expected_body=base64.b64decode(here["body"]),
        )
        difference = compare(sample, there["type"], base64.b64decode(there["body"]))
        if not difference.equal:
            return "wrong answer", f"answer {number}: {difference.text}", number
    return "served", "", 0
