"""Bundles to export, written as capture writes them. Used by the tests here and in tests/container."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

from nbserve.bundle import Bundle, Sample
from nbserve.bundle.folder import Content, write_bundle
from nbserve.bundle.manifest import EntryRecord, HandlerRecord, Manifest, Provenance, Span, ValueRecord

__all__ = ["LINEAR", "PYTHON", "sample", "write"]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

LINEAR = '''"""A handler."""

import os
import subprocess

import numpy as np

from nbserve.bundle import open_values

value = open_values(__file__)

SCALE = 1.0
weights = value("weights")


def predict(batch):
    """Rows of two numbers; a text asks about the process."""
    return [answer(row) for row in batch]


def answer(row):
    if row == "orphan":  # a grandchild whose parent ends first
        return subprocess.run(["sh", "-c", "sleep 0.2 & echo $!"], capture_output=True).returncode
    if isinstance(row, str):
        return os.environ.get(row)
    return (SCALE * np.array(row, dtype="float64") @ np.array(weights)).tolist()
'''
WEIGHTS = [[0.25, -1.5], [3.0, 0.125]]


def sample(question: Any = (1.0, 2.0), answer: Any = (6.25, -1.25)) -> Sample:
    """A question and its answer, as JSON."""
    json_type = "application/json"
    return Sample(
        content_type=json_type,
        body=json.dumps(question).encode(),
        expected_content_type=json_type,
        expected_body=json.dumps(answer).encode(),
    )


def write(
    root: Path,
    handler: str = LINEAR,
    *,
    name: str = "linear",
    values: dict[str, Any] | None = None,
    modules: dict[str, str] | None = None,
    asked: Sample | None = None,
    roots: tuple[str, ...] = ("numpy",),
    live_only: bool = False,
    entries: tuple[EntryRecord, ...] = (),
    python: str = PYTHON,
) -> Bundle:
    """A bundle of a function `predict`. `roots`: distributions that it needs, pinned as they are installed."""
    values = {"weights": WEIGHTS} if values is None else values
    saver: Any = "pickle" if live_only else "structure"
    suffix = "pickle" if live_only else "json"
    requirements = [f"{root}=={importlib.metadata.version(root)}" for root in sorted((*roots, "jupyter-nbserve"))]
    manifest = Manifest(
        name=name,
        handler=HandlerRecord("predict", "function"),
        python=python,
        live_only=live_only,
        values={
            key: ValueRecord(saver, type(value).__name__, [f"data/{key}.{suffix}"]) for key, value in values.items()
        },
        requirements=requirements,
    )
    texts = {"handler.py": handler, "requirements.txt": "".join(f"{line}\n" for line in requirements)}
    texts |= {f"data/{key}.{suffix}": json.dumps(value) for key, value in values.items()}
    texts |= {f"modules/{key}": text for key, text in (modules or {}).items()}
    files: dict[str, Any] = {file: lambda text=text: iter([text.encode()]) for file, text in texts.items()}
    lines = len(handler.splitlines())
    provenance = Provenance(created_at=1.0, entries=list(entries), source_map=[Span(3, lines, "In[4]", 1)])
    return write_bundle(root, manifest, Content(files, {}), provenance, asked)
