"""The 0600 files by which gateways are found, and the port that each notebook had last.

A gateway publishes one `nbserve-<id>.json` in Jupyter's runtime directory when it listens and removes it when it
goes; the notebook, the CLI and the server extension read them. Readers trust no file: a record counts only while
its process lives (pid, start time and boot id, so a re-used pid is not taken for a gateway).
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec

__all__ = [
    "SCHEMA",
    "GatewayRecord",
    "boot_id",
    "home",
    "host_name",
    "is_alive",
    "process_start_time",
    "publish",
    "record_files",
    "records",
    "remember_port",
    "remembered_port",
    "remove",
    "runtime_dir",
]

SCHEMA = 1
_PREFIX = "nbserve-"
_REMEMBERED_PORTS = 200
"""Notebooks whose port is kept; the oldest go first."""


class GatewayRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One running gateway, as others find it. The file is readable by its owner only: it holds the token."""

    id: str
    name: str = ""
    """The notebook's path, or the user's word for this gateway."""
    pid: int
    start_time: float
    """`process_start_time(pid)`: tells a gateway from a later process with its pid."""
    boot_id: str
    """`boot_id()`: pids of before a reboot mean nothing."""
    host: str
    """`host_name()`: a shared home directory shows files of other machines."""
    url: str
    """Inference API, e.g. http://127.0.0.1:8080"""
    management_url: str
    token: str
    kernel_id: str = ""
    profile: str = "notebook"
    version: str = ""
    """Of nbserve."""
    cpus: tuple[int, ...] = ()
    """Where its workers run, one number for each worker and CPU: other gateways take others while there are any."""
    schema: int = SCHEMA


def publish(record: GatewayRecord) -> Path:
    """Write the record's file, readable by its owner only, in one step; the path to give to `remove`."""
    folder = runtime_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{_PREFIX}{record.id}.json"
    _write_private(path, msgspec.json.encode(record))
    return path


def remove(path: Path) -> None:
    """Take a record's file away; no error if it is gone."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def records() -> list[GatewayRecord]:
    """Every gateway of this machine that lives, oldest first. Files of dead ones are deleted."""
    found = []
    for path in record_files():
        record = _read(path)
        if record is None or record.host != host_name():
            continue  # half a file, another schema, another machine: not ours to judge or delete
        if is_alive(record):
            found.append(record)
        else:
            remove(path)
    return sorted(found, key=lambda record: record.start_time)


def record_files() -> list[Path]:
    """Files of records, of dead gateways too."""
    return sorted(runtime_dir().glob(f"{_PREFIX}*.json"))


def is_alive(record: GatewayRecord) -> bool:
    """Whether the very process that wrote the record still runs."""
    return record.boot_id == boot_id() and process_start_time(record.pid) == record.start_time


def process_start_time(pid: int) -> float | None:
    """When a process started, in a unit of the system's own (only equality means something); None if it is gone.

    A zombie counts as gone: it serves nobody.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None if os.path.isdir("/proc/self") else _start_time_by_psutil(pid)
    fields = stat.rpartition(")")[2].split()  # the command's name may hold blanks and brackets
    state, start_ticks = fields[0], fields[19]
    return None if state in ("Z", "X") else float(start_ticks)


def _start_time_by_psutil(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


@cache
def boot_id() -> str:
    """Changes with every boot of the machine; empty where the system has no such word."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@cache
def host_name() -> str:
    """This machine's name, as records carry it."""
    return socket.gethostname()


def home() -> Path:
    """Where bundles and remembered ports are kept: `$NBSERVE_HOME`, else `nbserve` in Jupyter's data directory."""
    if chosen := os.environ.get("NBSERVE_HOME"):
        return Path(chosen).expanduser()
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "nbserve"


def remembered_port(notebook: str) -> int:
    """The port of this notebook's last gateway; 0 if none is known."""
    return _read_ports().get(notebook, 0)


def remember_port(notebook: str, port: int) -> None:
    """Keep the port for this notebook's next gateway."""
    ports = _read_ports()
    if ports.pop(notebook, 0) == port and len(ports) < _REMEMBERED_PORTS:
        return
    ports[notebook] = port
    recent = dict(list(ports.items())[-_REMEMBERED_PORTS:])
    home().mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_private(_ports_file(), msgspec.json.encode(recent))


def _ports_file() -> Path:
    return home() / "ports.json"


def _read_ports() -> dict[str, int]:
    try:
        return msgspec.json.decode(_ports_file().read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError):
        return {}


def runtime_dir() -> Path:
    """Jupyter's runtime directory, where the records lie."""
    from jupyter_core.paths import jupyter_runtime_dir

    return Path(jupyter_runtime_dir())


def _read(path: Path) -> GatewayRecord | None:
    try:
        record = msgspec.json.decode(path.read_bytes(), type=GatewayRecord)
    except (OSError, msgspec.MsgspecError):
        return None
    return record if record.schema == SCHEMA else None


def _write_private(path: Path, content: bytes) -> None:
    with _private_file(path.parent) as (descriptor, temporary):
        os.write(descriptor, content)
        os.replace(temporary, path)


@contextlib.contextmanager
def _private_file(folder: Path) -> Iterator[tuple[int, str]]:
    """A new 0600 file to be renamed into place; removed if it was not."""
    descriptor, temporary = tempfile.mkstemp(prefix=".nbserve-", dir=folder)
    try:
        yield descriptor, temporary
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
