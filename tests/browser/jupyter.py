"""A real JupyterLab (which serves Notebook 7 as well) for tests in a browser, and a notebook opened in it.

Everything that Jupyter reads or writes is in a temporary folder; a request that would leave this machine is stopped and
fails the test.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Locator, Page, Route

START_S = 90.0
STEP_MS = 30_000
FRONT_ENDS = ("lab", "notebook")
FrontEnd = Literal["lab", "notebook"]
OUTPUT = ".jp-OutputArea-output"


class Jupyter:
    """A running server. Made by `jupyter()`."""

    def __init__(self, url: str, token: str, folder: Path) -> None:
        self.url, self.token, self.folder = url, token, folder

    def write(self, name: str, cells: list[str]) -> str:
        """A notebook of these cells in the server's folder."""
        fresh: dict[str, Any] = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        body = {
            "cells": [fresh | {"id": f"cell-{at}", "source": source} for at, source in enumerate(cells)],
            "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        (self.folder / name).write_text(json.dumps(body))
        return name

    def end_kernels(self) -> None:
        """Shut down every notebook's kernel, and with it what it serves."""
        for session in self._ask("api/sessions"):
            self._ask(f"api/sessions/{session['id']}", "DELETE")

    def _ask(self, path: str, method: str = "GET") -> Any:
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.url}{path}", headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read() or b"null")

    def saved(self, name: str) -> dict[str, Any]:
        """A notebook as it lies on the disk."""
        return dict(json.loads((self.folder / name).read_text()))


class OpenNotebook:
    """A notebook in a browser. Cells are run by number; `left` are the requests that would have left the machine."""

    def __init__(self, page: Page, front_end: FrontEnd) -> None:
        self.page = page
        self.front_end = front_end
        self.left: list[str] = []
        self.console: list[str] = []
        page.set_default_timeout(STEP_MS)
        page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.console.append(f"error: {error}"))
        page.route("**/*", self._keep_here)

    def _keep_here(self, route: Route) -> None:
        address = urlsplit(route.request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname != "127.0.0.1":
            self.left.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    def cell(self, number: int) -> Locator:
        """A code cell, from 0."""
        return self.page.locator(".jp-CodeCell").nth(number)

    def output(self, number: int) -> Locator:
        """What a cell showed."""
        return self.cell(number).locator(OUTPUT)

    def start(self, number: int) -> None:
        """Run a cell; does not wait for it."""
        self.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")

    def run(self, number: int) -> None:
        """Run a cell and wait until it has ended well."""
        self.start(number)
        self.page.wait_for_function(
            """number => { const cell = document.querySelectorAll('.jp-CodeCell')[number];
            return /\\[\\d+\\]/.test(cell.querySelector('.jp-InputPrompt').textContent); }""",
            arg=number,
        )
        errors = self.cell(number).locator("[data-mime-type='application/vnd.jupyter.stderr']")
        assert errors.count() == 0, errors.all_inner_texts()

    def is_running(self, number: int) -> bool:
        """Whether a cell has begun and not ended."""
        return "[*]" in self.cell(number).locator(".jp-InputPrompt").inner_text()

    def save(self) -> None:
        """Write the notebook to the disk."""
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("Control+s")

    def theme(self, name: Literal["JupyterLab Light", "JupyterLab Dark"]) -> None:
        """Change JupyterLab's theme."""
        self.page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        light = str(name == "JupyterLab Light").lower()
        self.page.wait_for_function("light => document.body.dataset.jpThemeLight === light", arg=light)


@contextmanager
def opened(
    browser: Browser,
    server: Jupyter,
    name: str,
    front_end: FrontEnd = "lab",
    *,
    listen: Callable[[Page], None] = lambda page: None,
) -> Iterator[OpenNotebook]:
    """Open a notebook, wait for its kernel. No request may leave the machine. `listen`: to the page, from its start."""
    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    notebook = OpenNotebook(page, front_end)
    listen(page)
    where = f"lab/tree/{name}?reset&" if front_end == "lab" else f"notebooks/{name}?"
    page.goto(f"{server.url}{where}token={server.token}")
    try:
        page.locator(".jp-CodeCell").first.wait_for()
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for()
        page.evaluate(READY)
        if front_end == "lab":
            page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area').catch(() => 0)")
        yield notebook
        assert not notebook.left, f"requests that would have left the machine: {notebook.left}"
    except BaseException:
        keep(page, notebook.console, name)
        raise
    finally:
        page.close()
        server.end_kernels()


READY = """async () => {
  const widget = window.jupyterapp.shell.currentWidget;
  await widget.context.ready;
  await widget.sessionContext.ready;
}"""


def keep(page: Page, console: list[str], name: str) -> None:
    """What is seen when a test fails, for who looks into it."""
    folder = Path("test-output")
    folder.mkdir(exist_ok=True)
    stem = f"{Path(name).stem}-{time.monotonic_ns()}"
    page.screenshot(path=folder / f"{stem}.png", full_page=True)
    (folder / f"{stem}.txt").write_text("\n".join(console))


@contextmanager
def jupyter(folder: Path) -> Iterator[Jupyter]:
    """Start JupyterLab, wait until it answers, end it."""
    work = folder / "work"
    work.mkdir(parents=True)
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    token, port = secrets.token_hex(16), free_port()
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "MPLCONFIGDIR": "matplotlib"}
    folders |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    environment = os.environ | {name: str(folder / each) for name, each in folders.items()}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={work}"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True"]
    command += ["--JupyterNotebookApp.expose_app_in_browser=True"]
    command += ["--LabApp.extension_manager=readonly"]
    log = folder / "jupyter.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=work, env=environment, stdout=output, stderr=output)
    server = Jupyter(f"http://127.0.0.1:{port}/", token, work)
    try:
        wait_for(server, process, log)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wait_for(server: Jupyter, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server answers. Raises AssertionError with its log where it ends or takes too long."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(f"{server.url}api/status?token={server.token}", timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
