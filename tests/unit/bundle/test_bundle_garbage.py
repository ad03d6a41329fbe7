"""Garbage: the newest five and what is in use stay, other names are not touched."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nbserve.bundle.garbage import collect


def make(root: Path, name: str, age: int) -> Path:
    folder = root / f"{name}-{age:012x}"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    (folder / "provenance.json").write_text("{}")
    os.utime(folder / "provenance.json", (1_000_000 - age, 1_000_000 - age))
    return folder


def test_newest_five_and_used_ones_stay(tmp_path: Path) -> None:
    bundles = [make(tmp_path, "digits", age) for age in range(9)]
    others = [make(tmp_path, "digits-v2", age) for age in range(9)]
    removed = collect(tmp_path, "digits", [bundles[7]])
    assert removed == [bundles[5], bundles[6], bundles[8]]
    assert [path.exists() for path in bundles] == [True] * 5 + [False, False, True, False]
    assert all(path.exists() for path in others)


def test_two_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    for age in range(400):
        make(tmp_path, "digits", age)
    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(collect, tmp_path, "digits", []) for _ in range(4)]
        for run in runs:
            run.result()
    assert len(list(tmp_path.iterdir())) == 5


def test_no_folder_is_no_garbage(tmp_path: Path) -> None:
    assert collect(tmp_path / "none", "digits", []) == []
