"""The bundle as a folder: open, load, and write in one rename.

    manifest.json       what is in it, with the sha256 of every file; its digest is the bundle's identity
    handler.py          imports, definitions, literals, and one line for each value
    weights/ data/      the values
    modules/            local modules that the notebook imported; on sys.path while the bundle is loaded
    requirements.txt    distributions of what is imported, pinned
    sample.json         question and answer for the proof       not part of the identity
    provenance.json     cells, times, host                      not part of the identity
    fingerprint.json    what the values were in the notebook    not part of the identity

Opened by the gateway (never loaded there), loaded by workers, written by `capture/`.
"""

from __future__ import annotations

import importlib.util
import linecache
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from nbserve.bundle import rebuilt
from nbserve.bundle.digests import (
    Earlier,
    digest_of,
    file_digest,
    link,
    linked_digest,
    namesakes,
    same_bytes,
    twins,
    write_and_digest,
)
from nbserve.bundle.fingerprint import Fingerprint
from nbserve.bundle.manifest import Manifest, Provenance, locate_in
from nbserve.bundle.proof import Sample, dump_sample, parse_sample
from nbserve.bundle.values import LoadOptions, load_options, read_manifest
from nbserve.errors import BundleError

__all__ = ["Bundle", "Content", "Draft", "Loaded", "write_bundle"]

_UNHASHED = ("manifest.json", "provenance.json", "sample.json", rebuilt.FILE)


class Loaded(NamedTuple):
    """A bundle's handler, in this process. kind: class | function | module (then `handler` is an instance)."""

    handler: Any
    kind: str
    module: ModuleType
    locate: Callable[[str, int], str | None]
    """(file, line) of a traceback -> "In[5], line 3" or "featurize.py, line 12"; None for everybody else's code."""


class Bundle:
    """One bundle folder. Read-only; the folder never changes."""

    def __init__(self, path: Path, manifest: Manifest, sample: Sample | None, provenance: Provenance) -> None:
        self.path, self.manifest, self.sample, self.provenance = path, manifest, sample, provenance
        self.name = manifest.name
        self.digest = manifest.digest()

    @classmethod
    def open(cls, path: str | Path, *, check_digest: bool = False) -> Bundle:
        """Read a bundle. check_digest also reads every file (400 MB in some 0.3 s) and compares with the manifest.

        Raises BundleError naming what is missing, damaged or changed.
        """
        root = Path(path).absolute()
        manifest = read_manifest(root)
        if not (root / "handler.py").is_file():
            raise BundleError(f"{root} has no handler.py", hint="capture it again")
        missing = [file for file in manifest.files if not (root / file).is_file()]
        if missing:
            raise BundleError(f"{root} lacks {', '.join(missing)}", hint="capture it again")
        bundle = cls(root, manifest, _read_sample(root), _read_provenance(root))
        if check_digest:
            bundle.check()
        return bundle

    def check(self, digest: Callable[[Path], str] = file_digest) -> None:
        """Raises BundleError naming the first file that is not what the manifest says, or that it does not know.

        digest: of a file, for who checks many bundles and remembers (digests.Digests).
        """
        for file, expected in self.manifest.files.items():
            if digest(self.path / file) != expected:
                raise BundleError(
                    f"{self.path}: {file} was changed after the bundle was written", hint="capture it again"
                )
        extra = sorted(set(_files(self.path)) - set(self.manifest.files))
        if extra:
            raise BundleError(f"{self.path}: {extra[0]} is not in the manifest", hint="capture it again")
        if len(given := self.path.name.rpartition("-")[2]) == 12 and not self.digest.startswith(given):
            raise BundleError(
                f"{self.path}: the manifest was changed, its digest is {self.digest[:12]}",
                hint="capture it again",
            )

    def load(self, on_stage: Callable[[str], None] = lambda _stage: None, *, device: str | None = None) -> Loaded:
        """Import handler.py, which reads the values. Stages: "import", then "values".

        device: where tensors go that were not on the CPU when captured ("cuda:0"); None = the CPU.
        Raises what the user's module level raises, and BundleError.
        """
        seen: list[str] = []

        def stage(name: str) -> None:
            if name not in seen:
                seen.append(name)
                on_stage(name)

        stage("import")
        self._check_python()
        modules = self.path / "modules"
        if modules.is_dir() and str(modules) not in sys.path:
            sys.path.insert(0, str(modules))
        token = load_options.set(LoadOptions(lambda: stage("values"), device))
        try:
            module = _import_file(f"nbserve_handler_{self.digest[:8]}", self.path / "handler.py")
        finally:
            load_options.reset(token)
        stage("values")
        try:
            handler = getattr(module, self.manifest.handler.name)
        except AttributeError:
            raise BundleError(f"{self.path}: handler.py does not define {self.manifest.handler.name}") from None
        return Loaded(handler, self.manifest.handler.kind, module, self.locate)

    def _check_python(self) -> None:
        """Source and data of one minor version may mean something else to another: no worker tries."""
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        if self.manifest.python != here:
            raise BundleError(
                f"{self.name} was captured under Python {self.manifest.python}, and this worker runs Python {here} "
                f"({sys.executable})",
                hint=f"start nbserve with Python {self.manifest.python}, or serve the cell again from a notebook that "
                f"runs {here}",
            )

    def locate(self, filename: str, line: int) -> str | None:
        """See Loaded.locate."""
        try:
            inside = Path(filename).absolute().relative_to(self.path)
        except ValueError:
            return None
        if inside == Path("handler.py"):
            return locate_in(self.provenance.source_map, line) or f"handler.py, line {line}"
        if inside.parts[0] == "modules":
            return f"{inside.relative_to('modules')}, line {line}"
        return None


class Content(NamedTuple):
    """What `write_bundle` writes: files as chunks (asked for twice: digest, then disk), folders by a function that is
    told which earlier bundles have a file."""

    files: dict[str, Callable[[], Iterator[bytes | memoryview]]]
    folders: dict[str, Callable[[Path, Earlier], None]]


class Draft:
    """Content as it was when it was captured, written under a temporary name or found in an earlier bundle.

    `finish` makes a bundle of it, `discard` (also the end of a `with`) takes away what is left. digests: of its files.
    Large files that another bundle under `root` has are not written again but linked.
    Raises BundleError where the disk refuses.
    """

    def __init__(self, root: Path, manifest: Manifest, content: Content) -> None:
        self._root, self._content = root, content
        self._temporary = root / f".tmp-{manifest.name}-{secrets.token_hex(6)}"
        with _told(root):
            self._temporary.mkdir(mode=0o700, parents=True)
            try:
                for folder, save in content.folders.items():
                    (self._temporary / folder).mkdir(parents=True)
                    save(self._temporary / folder, partial(self._earlier, folder))
                self.digests = {file: linked_digest(root, self._temporary / file) for file in _files(self._temporary)}
                self.digests |= {file: self._digest(file) for file in content.files}
                self._manifest = msgspec.structs.replace(manifest, files=dict(sorted(self.digests.items())))
                self._target = root / f"{manifest.name}-{self._manifest.digest()[:12]}"
                if not self._is_there:
                    self._write()
            except BaseException:
                self.discard()
                raise

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @property
    def _is_there(self) -> bool:
        return (self._target / "manifest.json").is_file()

    def changed(self) -> list[str]:
        """Files that would be written otherwise now."""
        folder = self._target if self._is_there else self._temporary
        return [file for file, chunks in self._content.files.items() if not same_bytes(folder / file, chunks())]

    def finish(self, provenance: Provenance, sample: Sample | None, fingerprint: Fingerprint | None = None) -> Bundle:
        """Make it `root/<name>-<digest12>`, or use the one that is there; what is not hashed becomes the new."""
        with _told(self._root):
            if self._is_there:
                _write_sides(self._target, provenance, sample, fingerprint)
                return Bundle.open(self._target)
            _write_sides(self._temporary, provenance, sample, fingerprint)
            for path in [*(self._temporary / file for file in _files(self._temporary)), *_folders(self._temporary)]:
                _sync(path)
            try:
                self._temporary.rename(self._target)
            except OSError:
                if not self._is_there:  # else: another process was first with the same
                    raise
            _sync(self._root)
            return Bundle.open(self._target)

    def discard(self) -> None:
        """Remove what was not finished."""
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _earlier(self, folder: str, name: str) -> list[Path]:
        return [path for path, _ in namesakes(self._root, f"{folder}/{name}")]

    def _digest(self, file: str) -> str:
        """Of a file to be written. One that an earlier bundle has in the same place is compared with that first; where
        there is none to link to, it is written at once."""
        chunks = self._content.files[file]
        known = namesakes(self._root, file)
        if not known:
            return write_and_digest(self._temporary / file, chunks())
        same = (digest for path, digest in known if same_bytes(path, chunks()))
        return next(same, "") or digest_of(chunks())

    def _write(self) -> None:
        there = twins(self._root, set(self.digests.values()))
        for file, digest in self.digests.items():
            linked = digest in there and link(there[digest], self._temporary / file)
            if not linked and not (self._temporary / file).exists():
                _write_file(self._temporary / file, self._content.files[file]())
        _write_file(self._temporary / "manifest.json", [_pretty(self._manifest)])


def write_bundle(
    root: Path, manifest: Manifest, content: Content, provenance: Provenance, sample: Sample | None
) -> Bundle:
    """Write `root/<name>-<digest12>`, or use the one that is there; sample and provenance become the new ones.

    All is written to a temporary name beside it, synced, and renamed: a bundle is whole or not there.
    Raises BundleError where the disk refuses.
    """
    with Draft(root, manifest, content) as draft:
        return draft.finish(provenance, sample)


@contextmanager
def _told(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise BundleError(
            f"the bundle cannot be written to {root}: {exc}",
            hint="free space there, or have NBSERVE_HOME name another folder",
        ) from exc


def _write_sides(folder: Path, provenance: Provenance, sample: Sample | None, fingerprint: Fingerprint | None) -> None:
    """What is not hashed. Replaced by renames: readers see the old or the new."""
    sides = {"provenance.json": _pretty(provenance)}
    if sample is not None:
        sides["sample.json"] = dump_sample(sample)
    if fingerprint is not None:
        sides[rebuilt.FILE] = rebuilt.dump_fingerprint(fingerprint)
    for name in {"sample.json", rebuilt.FILE} - sides.keys():
        (folder / name).unlink(missing_ok=True)
    for name, data in sides.items():
        new = folder / f".{name}-{secrets.token_hex(6)}"
        _write_file(new, [data])
        new.rename(folder / name)


def _write_file(path: Path, chunks: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _files(root: Path) -> list[str]:
    """Hashed files of a bundle, relative, sorted. Byte code that Python left there is nobody's content."""
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(
        str(path)
        for path in found
        if "__pycache__" not in path.parts
        and str(path) not in _UNHASHED
        and not (len(path.parts) == 1 and path.name.startswith("."))
    )


def _folders(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_dir()] + [root]


def _pretty(value: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _read_sample(root: Path) -> Sample | None:
    try:
        return parse_sample((root / "sample.json").read_bytes())
    except FileNotFoundError:
        return None


def _read_provenance(root: Path) -> Provenance:
    try:
        return msgspec.json.decode((root / "provenance.json").read_bytes(), type=Provenance)
    except FileNotFoundError:
        return Provenance()
    except msgspec.MsgspecError as exc:
        raise BundleError(f"{root}: provenance.json cannot be read: {exc}") from exc


def _import_file(name: str, path: Path) -> ModuleType:
    """Import one file under a name of its own; no byte code is left in the bundle."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    linecache.checkcache(str(path))
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    finally:
        sys.dont_write_bytecode = written
    return module
