"""sha256 of a bundle's files: computed once a file, and used to store the same weights once for many bundles.

Used by folder.py. A re-run cell with the same tensors is a new bundle; its large files are hard links to those of the
bundle before, so that nothing is written again, and the workers of both versions map the same pages.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

__all__ = [
    "SHARED_BYTES",
    "Digests",
    "Earlier",
    "digest_of",
    "file_digest",
    "link",
    "linked_digest",
    "namesakes",
    "same_bytes",
    "twins",
    "write_and_digest",
]

Earlier = Callable[[str], list[Path]]
"""Name of a file of a folder -> large files of that name and place in the bundles that there are, the latest first."""

SHARED_BYTES = 1024 * 1024
"""Files from this size on are linked, and remembered once they were read; smaller ones are not worth it."""

_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def digest_of(chunks: Iterable[bytes | memoryview]) -> str:
    """sha256 of chunks, as hexadecimal digits."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file (400 MB in some 0.2 s; the GIL is free meanwhile). Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_and_digest(path: Path, chunks: Iterable[bytes | memoryview]) -> str:
    """Write chunks to a file and take their sha256 in a thread meanwhile: one takes as long as the other.

    Raises OSError.
    """
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, ThreadPoolExecutor(1, thread_name_prefix="nbserve-digest") as thread:
        for chunk in chunks:
            hashed = thread.submit(digest.update, chunk)
            file.write(chunk)
            hashed.result()
    return digest.hexdigest()


class Digests:
    """Digests of files, each read once, however many bundles it is in and however often they are opened.

    Device, inode, size and time of the last change tell whether a file is still the one that was read. Safe to use from
    several threads: at worst two of them read the same file.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int, int], str] = {}

    def of(self, path: Path) -> str:
        """The file's sha256. Raises OSError."""
        stat = path.stat()
        if stat.st_size < SHARED_BYTES:
            return file_digest(path)
        key = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if (known := self._known.get(key)) is None:
            known = self._known[key] = file_digest(path)
        return known


def linked_digest(root: Path, path: Path) -> str:
    """A file's sha256; one that is another name of a bundle's under `root` is not read for it. Raises OSError."""
    stat = path.stat()
    if stat.st_nlink > 1:
        for known in _large_files(root):
            if known.inode == stat.st_ino:
                return known.digest
    return file_digest(path)


def same_bytes(path: Path, chunks: Iterable[bytes | memoryview]) -> bool:
    """Does the file hold just these bytes? False where there is none. Some five times as fast as a digest.

    By memcmp(3), which Python has for whole `bytes` only: half the time of a comparison by numpy.
    Raises OSError for a file that cannot be read.
    """
    import numpy

    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
        except FileNotFoundError:
            return False
        size = os.fstat(file.fileno()).st_size
        held: bytes | mmap.mmap = b""
        if size:
            held = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        at = 0
        for chunk in chunks:
            count = memoryview(chunk).nbytes
            if count > size - at:
                return False
            if not count:
                continue
            given, there = numpy.frombuffer(chunk, numpy.uint8), numpy.frombuffer(held, numpy.uint8, count, at)
            same = not _memcmp(there.ctypes.data, given.ctypes.data, count)
            del there  # or the file could not be closed
            if not same:
                return False
            at += count
        return at == size


def twins(root: Path, wanted: Collection[str]) -> dict[str, Path]:
    """Large files with these digests in the bundles under `root`, by digest."""
    found: dict[str, Path] = {}
    for known in _large_files(root):
        if known.digest in wanted:
            found.setdefault(known.digest, known.path)
    return found


def namesakes(root: Path, file: str) -> list[tuple[Path, str]]:
    """Large files of this name in the bundles under `root`, each with its digest, the latest first; links once."""
    found = {known.inode: known for known in _large_files(root) if known.file == file}
    return [(known.path, known.digest) for known in sorted(found.values(), key=lambda each: -each.written_ns)]


class _Files(msgspec.Struct):
    files: dict[str, str] = {}


class _Known(NamedTuple):
    file: str
    digest: str
    path: Path
    inode: int
    written_ns: int


def _large_files(root: Path) -> Iterator[_Known]:
    """What manifests say of large files.

    A bundle's manifest is written last: a file that was changed after it is not what the manifest says.
    """
    for manifest in root.glob("*/manifest.json"):
        with suppress(OSError, msgspec.MsgspecError):  # removed meanwhile, or no bundle
            written_ns = manifest.stat().st_mtime_ns
            for file, digest in msgspec.json.decode(manifest.read_bytes(), type=_Files).files.items():
                stat = (manifest.parent / file).stat()
                if stat.st_size >= SHARED_BYTES and stat.st_mtime_ns <= written_ns:
                    yield _Known(file, digest, manifest.parent / file, stat.st_ino, written_ns)


def link(twin: Path, path: Path) -> bool:
    """Make `path` another name of `twin`; what stood there is replaced. False where the file system has no such."""
    new = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.samefile(twin):  # rename(2) would do nothing, and leave the other name
            return True
        os.link(twin, new)
        new.replace(path)
    except OSError:  # it was removed meanwhile, has too many names already, or links are not known here
        new.unlink(missing_ok=True)
        return False
    return True
