"""Bundles with one thing wrong: a captured name dropped, or what it holds made stale. Each must be noticed.

`mutants` says what can be done to a bundle; `survivors` does it, in copies, each served by a process of its own.
Runs in a zygote's child.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import os
import pkgutil
import shutil
import signal
import struct
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nbserve.bundle import Bundle
from nbserve.bundle.imports import imported_names
from tests.capture.outcome import differences
from tests.capture.worker import serve

__all__ = ["Mutant", "mutants", "survivors"]

Mutant = dict[str, Any]
"""{"name": what was captured, "kind": "dropped" | "stale", "handler": new text or None, "value": its record's name}."""

MUTANT_LIMIT_S = 30
_KEEP = ("value = open_values", '"""', "from __future__", "from nbserve.bundle import open_values")


def mutants(bundle: Path) -> list[Mutant]:
    """Every captured name dropped, and every literal and value made stale."""
    text = (bundle / "handler.py").read_text("utf-8")
    lines = text.splitlines(keepends=True)
    manifest = json.loads((bundle / "manifest.json").read_text())
    found: list[Mutant] = []
    for node in ast.parse(text).body:
        own = "".join(lines[_first(node) - 1 : node.end_lineno])
        if own.startswith(_KEEP):
            continue
        for name, rest in _without(node, own):
            new = "".join([*lines[: _first(node) - 1], rest, *lines[node.end_lineno :]])
            found.append({"name": name, "kind": "dropped", "handler": new, "value": None})
        if isinstance(node, ast.Assign) and (stale := _stale_literal(node, own)) is not None:
            new = "".join([*lines[: _first(node) - 1], stale, *lines[node.end_lineno :]])
            found.append({"name": ast.unparse(node.targets[0]), "kind": "stale", "handler": new, "value": None})
    for name, record in manifest["values"].items():
        if record["saver"] == "structure":
            found.append({"name": name, "kind": "stale", "handler": None, "value": name})
    return found


def survivors(bundle: str, expected: list[dict[str, Any]], only: list[Mutant] | None = None) -> dict[str, Any]:
    """Mutants whose answers are those of the notebook all the same."""
    _import_ahead(Path(bundle))
    left, tried = [], 0
    for number, mutant in enumerate(only if only is not None else mutants(Path(bundle))):
        copy = Path(f"mutant-{number}-000000000000").absolute()
        shutil.copytree(bundle, copy, copy_function=os.link)
        if _applied(mutant, copy):
            tried += 1
            if _answers_alike(copy, expected):
                left.append([mutant["name"], mutant["kind"]])
        shutil.rmtree(copy)
    return {"survivors": left, "tried": tried}


def _import_ahead(bundle: Path) -> None:
    """What the bundle imports, once for all its mutants: half of their time. A name that one lacks it lacks anyway."""
    tree = ast.parse((bundle / "handler.py").read_text("utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    local = {path.stem for path in (bundle / "modules").glob("*")}
    for name in [*names, *imported_names(Bundle.open(bundle)), "asyncio", "threadpoolctl", "nbserve.bundle.decoder"]:
        if name.partition(".")[0].partition(":")[0] not in local:
            with contextlib.suppress(Exception):  # the mutant fails by it, or none does
                pkgutil.resolve_name(name)


def _first(node: ast.stmt) -> int:
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])


def _without(node: ast.stmt, own: str) -> Iterator[tuple[str, str]]:
    """(name, what is left of the statement) for each name that it binds."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        for alias in node.names:
            others = [each for each in node.names if each is not alias]
            kept = ast.unparse(type(node)(**{**dict(ast.iter_fields(node)), "names": others})) + "\n" if others else ""
            yield alias.asname or alias.name, kept
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        if not node.name.startswith("_make_"):
            yield node.name, ""
    elif isinstance(node, ast.Assign):
        yield ast.unparse(node.targets[0]), ""
    elif isinstance(node, ast.If):
        yield "indented " + ast.unparse(node)[:40], ""
    elif own.startswith("ambient("):
        yield "ambient", ""
    else:
        yield own.strip()[:60], ""


def _stale_literal(node: ast.Assign, own: str) -> str | None:
    """The assignment with the first of its constants changed; None where it has none."""
    if isinstance(node.value, (ast.Call, ast.Lambda)):
        return None
    for each in ast.walk(node.value):
        if isinstance(each, ast.Constant) and each.value is not None and each.value is not ...:
            value = each.value
            new: Any = not value if isinstance(value, bool) else None
            if new is None:
                new = value + (b"~" if isinstance(value, bytes) else "~" if isinstance(value, str) else 1)
            each.value = new
            return ast.unparse(node) + "\n"
    return None


def _applied(mutant: Mutant, copy: Path) -> bool:
    if mutant["handler"] is not None:
        (copy / "handler.py").unlink()
        (copy / "handler.py").write_text(mutant["handler"], "utf-8")
        return True
    record = json.loads((copy / "manifest.json").read_text())["values"][mutant["value"]]
    listed = [copy / file for file in record["files"]]
    inside = [path for folder in listed for path in sorted(folder.rglob("*.safetensors"))]
    changed = [_stale_file(path) for path in [*filter(Path.is_file, listed), *inside]]
    if any(changed):
        return True
    tree = copy / record["files"][0]
    doc = json.loads(tree.read_text())
    if not _stale_leaf(doc):
        return False
    tree.unlink()
    tree.write_text(json.dumps(doc))
    return True


def _stale_file(path: Path) -> bool:
    """Numbers of a weights or array file are others than they were."""
    data = bytearray(path.read_bytes())
    if path.suffix == ".safetensors":
        (size,) = struct.unpack("<Q", data[:8])
        for info in json.loads(data[8 : 8 + size]).values():
            if info.get("dtype") in ("F32", "F64", "I64", "U8", "BF16", "F16"):
                begin, end = (8 + size + offset for offset in info["data_offsets"])
                _add_one(data, begin, end, info["dtype"])
    elif path.suffix == ".npy":
        array = np.load(path)
        if array.dtype.kind not in "fiu" or not array.size:
            return False
        with path.with_suffix(".new").open("wb") as file:
            np.lib.format.write_array(file, array + 1)
        path.with_suffix(".new").replace(path)
        return True
    elif path.suffix == ".json":
        doc = json.loads(data)
        if not _stale_arrays(doc):
            return False
        data = bytearray(json.dumps(doc).encode())
    else:
        return False
    path.unlink()
    path.write_bytes(data)
    return True


_NUMPY = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "u1", "F16": "<f2"}


def _add_one(data: bytearray, begin: int, end: int, dtype: str) -> None:
    if dtype in _NUMPY:
        view = np.frombuffer(data, dtype=np.uint8)[begin:end].view(_NUMPY[dtype])
        view += 1
    else:
        data[begin:end] = bytes(each ^ 0x40 for each in data[begin:end])


def _stale_arrays(doc: Any) -> bool:
    """Arrays that stand in the tree."""
    if isinstance(doc, list):
        return sum(_stale_arrays(each) for each in doc) > 0  # all of them
    if not isinstance(doc, dict):
        return False
    if doc.get("$") in ("array", "scalar") and "v" in doc and isinstance(doc["dtype"], str):
        array = np.frombuffer(bytearray(base64.b64decode(doc["v"])), dtype=doc["dtype"])
        if array.dtype.kind in "fiu" and array.size:
            array += array.dtype.type(1)
            doc["v"] = base64.b64encode(array.tobytes()).decode()
            return True
    return sum(_stale_arrays(each) for each in doc.values()) > 0


_FORM = ("$", "n", "of", "class", "file", "folder", "key", "dtype", "shape", "stride", "offset", "training", "in")


def _stale_leaf(doc: Any) -> bool:
    """The first number or text that is data."""
    items = list(enumerate(doc)) if isinstance(doc, list) else list(doc.items()) if isinstance(doc, dict) else []
    plain = isinstance(doc, list) or "$" not in doc
    named = isinstance(doc, dict) and doc.get("$") in ("global", "named", "module", "enum", "call", "method")
    for key, value in items:
        if key in _FORM or (named and key == "v"):
            continue
        if isinstance(value, (list, dict)):
            if _stale_leaf(value):
                return True
        elif isinstance(value, (int, float, str)) and (plain or key == "v"):
            doc[key] = not value if isinstance(value, bool) else value + ("~" if isinstance(value, str) else 1)
            return True
    return False


def _answers_alike(bundle: Path, expected: list[dict[str, Any]]) -> bool:
    """In a child: what a mutant breaks stays there."""
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.close(read)
            signal.alarm(MUTANT_LIMIT_S)  # a stale lock is waited for without end: noticed, too
            half = expected[: len(expected) // 2]
            try:
                served = serve(
                    str(bundle),
                    [[each["question"], each["question_type"]] for each in half],
                    trace=False,
                    compare=False,
                )
                alike = differences(expected, served)[0] == "served"
            except BaseException:
                traceback.print_exc()
                alike = False
            os.write(write, b"1" if alike else b"0")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        alike = pipe.read() == b"1"
    os.waitpid(pid, 0)
    return alike
