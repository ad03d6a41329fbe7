"""Podman for tests: storage in a folder of its own, and a base image that needs no registry.

The cures for machines without systemd and for old kernels all lie in files that environment variables name, so the
product's own unchanged `podman build` and `podman run` are what is tested.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Storage", "container_storage"]

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE_IMAGE = f"python:{MINOR}-slim-bookworm"

_PACKAGES = """
base-files base-passwd bash coreutils dash debianutils findutils grep libacl1 libattr1 libbz2-1.0 libc-bin libc6
libcrypt1 libexpat1 libffi8 libgcc-s1 libgmp10 liblzma5 libncursesw6 libpcre2-8-0 libreadline8 libselinux1
libsqlite3-0 libssl3 libstdc++6 libtinfo6 libuuid1 sed tar zlib1g
"""
"""What `python:3-slim` has beside Python, as far as a build of ours can ask for it."""
_NOT_SHIPPED = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/")
_NO_STDLIB = {"__pycache__", "site-packages", "dist-packages", "test", "idlelib", "turtledemo", "tkinter", "lib2to3"}

_CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
netns = "none"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""runc, as Debian's crun refuses hybrid cgroups; no network in any container, so nothing here can come from outside."""


class Storage:
    """The environment under which `podman` works in this storage, and short ways to call it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "TMPDIR": str(folder / "tmp"),
        }

    def podman(self, *words: str, timeout_s: float = 120.0, check: bool = True) -> str:
        """Standard output of one podman command."""
        done = subprocess.run(
            ["podman", *words],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, f"podman {' '.join(words)}: {done.stderr}"
        return done.stdout

    def path_without_docker(self) -> str:
        """A PATH on which podman is the only engine."""
        commands = self.folder / "bin"
        commands.mkdir()
        podman = shutil.which("podman")
        assert podman, "podman is needed: tools/system_packages.sh podman runc"
        (commands / "podman").symlink_to(podman)
        folders = [folder for folder in os.environ["PATH"].split(":") if not (Path(folder) / "docker").exists()]
        return ":".join([str(commands), *folders])

    def prepare(self) -> None:
        """Write the configuration and import the base image."""
        (self.folder / "tmp").mkdir()
        (self.folder / "containers.conf").write_text(_CONTAINERS_CONF)
        (self.folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.folder}/graph"\nrunroot = "{self.folder}/run"\n'
        )
        archive = self.folder / "base.tar"
        _write_base(archive)
        change = ["--change", "ENV PATH=/usr/local/bin:/usr/bin:/bin", "--change", 'CMD ["python3"]']
        self.podman("import", *change, str(archive), f"localhost/{BASE_IMAGE}")
        archive.unlink()

    def clear(self) -> None:
        """End containers, unmount, remove; nothing stays."""
        self.podman("rm", "--all", "--force", "--time", "0", check=False)
        for mount in reversed(_mounts(self.folder)):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self.folder)
        assert not _mounts(self.folder)


@contextlib.contextmanager
def container_storage() -> Iterator[Storage]:
    """Storage with the base image, for the time of the block."""
    storage = Storage(Path(tempfile.mkdtemp(prefix="nbs-oci-")))
    try:
        storage.prepare()
        yield storage
    finally:
        storage.clear()


def _mounts(folder: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [place for place in (line.split()[1] for line in lines) if place.startswith(f"{folder}/")]


def _write_base(archive: Path) -> None:
    """Debian files of this machine and its interpreter, laid out as python:3-slim has them."""
    with tarfile.open(archive, "w") as tar:
        for name in ("bin", "lib", "lib64", "sbin"):
            _link(tar, name, f"usr/{name}")
        for name, mode in {
            "tmp": 0o1777,
            "etc": 0o755,
            "proc": 0o755,
            "sys": 0o755,
            "dev": 0o755,
            "run": 0o755,
        }.items():
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        for path in _debian_files():
            tar.add(path, str(path).lstrip("/"), recursive=False)
        for name in ("passwd", "group"):
            tar.add(f"/usr/share/base-passwd/{name}.master", f"etc/{name}")
        _add_python(tar)


def _debian_files() -> list[Path]:
    listing = subprocess.run(["dpkg", "-L", *_PACKAGES.split()], capture_output=True, text=True, check=False).stdout
    found = set()
    for name in listing.splitlines():
        path = Path(name)
        if name.count("/") > 1 and not name.startswith(_NOT_SHIPPED) and (path.is_symlink() or path.is_file()):
            found.add(path.parent.resolve() / path.name)
    return sorted(found)


def _add_python(tar: tarfile.TarFile) -> None:
    binary = Path(sys.base_prefix) / "bin" / f"python{MINOR}"
    tar.add(binary.resolve(), f"usr/local/bin/python{MINOR}")
    for name in ("python3", "python"):
        _link(tar, f"usr/local/bin/{name}", f"python{MINOR}")
    library = f"usr/local/lib/python{MINOR}"
    keep = functools.partial(_filtered, without=_NO_STDLIB)
    tar.add(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}), library, filter=keep)
    pip = importlib.util.find_spec("pip")
    assert pip is not None
    assert pip.origin is not None
    pyc = functools.partial(_filtered, without={"__pycache__"})
    tar.add(Path(pip.origin).parent, f"{library}/site-packages/pip", filter=pyc)
    shared = sysconfig.get_config_var("INSTSONAME") or ""
    if (found := Path(sys.base_prefix) / "lib" / shared).is_file():
        tar.add(found, f"usr/lib/{shared}")  # where the loader looks without a cache


def _filtered(entry: tarfile.TarInfo, *, without: set[str]) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = 0
    return None if without & set(entry.name.split("/")[4:]) else entry


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)
