"""A notebook without a kernel: IPython runs the cells, `Cells` is told about them as the extension's history does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from nbserve.bundle import Bundle
from nbserve.capture import Captured, Cells, capture, run_sample
from nbserve.handler import Context
from nbserve.pipeline import Item, Pipeline
from nbserve.wire.codec import encode_value

ASK = """
import json, sys
from nbserve.bundle import Bundle
from nbserve.handler import Context
from nbserve.pipeline import Item, Pipeline
bundle = Bundle.open(sys.argv[1], check_digest=True)
loaded = bundle.load()
pipeline = Pipeline(loaded.handler, Context(name="x"), locate=loaded.locate)
pipeline.initialize()
items = [Item(body.encode()) for body in json.loads(sys.argv[2])]
for answer in pipeline.run(items).answers:
    print(answer.body.decode() if answer.error is None else answer.error)
"""


class Notebook:
    """Run cells; capture what they made; load it as a worker does."""

    def __init__(self, shell: InteractiveShell, root: Path) -> None:
        self.shell, self.root = shell, root
        self.cells = Cells()
        self.ns: dict[str, Any] = shell.user_ns
        self.number = 0
        self.written: Bundle | None = None

    def run(self, *sources: str) -> None:
        """Each source is one cell."""
        for source in sources:
            self.number += 1
            text = self.shell.transform_cell(source)
            self.cells.add(self.number, text, self.shell.compile.get_code_name(source, text, self.number))
            self.shell.run_cell(source, store_history=True).raise_error()

    def capture(self, expression: str, **options: Any) -> Captured:
        """Capture what an expression of the notebook gives."""
        target = eval(expression, self.ns)
        return capture(target, name="x", namespace=self.ns, cells=self.cells, **options)

    def bundle(self, expression: str, **options: Any) -> Bundle:
        """Captured and written, digest checked."""
        bundle = self.capture(expression, **options).write(self.root / "bundles")
        bundle.check()
        return bundle

    def here(self, expression: str, *payloads: Any) -> list[Any]:
        """The answers of the live handler."""
        return self.ask(eval(expression, self.ns), payloads)

    def there(self, expression: str, *payloads: Any) -> list[Any]:
        """The answers of the captured handler, loaded from its folder."""
        return self.ask(self.bundle(expression).load().handler, payloads)

    @staticmethod
    def ask(handler: Any, payloads: Any) -> list[Any]:
        """Payloads through the pipeline, as one batch."""
        pipeline = Pipeline(handler, Context(name="x"))
        pipeline.initialize()
        outcome = pipeline.run([Item(*encode_value(payload)) for payload in payloads])
        errors = [answer.error for answer in outcome.answers if answer.error is not None]
        assert not errors, errors
        return [json.loads(answer.body) for answer in outcome.answers]

    def elsewhere(self, expression: str, *payloads: Any) -> list[Any]:
        """The same in a process of its own, which knows nothing of the notebook."""
        bodies = [encode_value(payload)[0].decode() for payload in payloads]
        command = [sys.executable, "-c", ASK, str(self.bundle(expression).path), json.dumps(bodies)]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def sample(self, expression: str, payload: Any, **options: Any) -> Any:
        """The sample run of the notebook, and its warnings."""
        captured = self.capture(expression)
        captured.warnings.clear()
        with captured.draft(self.root / "bundles") as draft:
            sample = run_sample(
                captured.target,
                captured.kind,
                payload,
                name="x",
                values=captured.values,
                warn=captured.warnings.append,
                locate=self.cells.locate,
                **options,
            )
            captured.note_changes(draft)
            self.written = captured.finish(draft, sample)
        return captured, sample, captured.warnings


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    main, modules, hook = sys.modules["__main__"], set(sys.modules), (sys.displayhook, sys.excepthook)
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    try:
        yield Notebook(shell, tmp_path)
    finally:
        sys.modules["__main__"] = main
        sys.displayhook, sys.excepthook = hook
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if file.startswith(str(tmp_path)):
                del sys.modules[name]
