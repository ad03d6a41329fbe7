"""What the control groups of this process allow: CPU quota, CPU set, memory. cgroup v2, v1, or both side by side.

Groups are nested, and a limit of any parent holds for all below it: every folder from the process's own group up to the
top of what is mounted here is asked, and the least counts. Reads files under a given root, so that recorded trees test
it. Called by gateway/pool/topology.py.
Sources: proc(5) on mountinfo, cgroups(7), Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst of the Linux kernel.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import NamedTuple

__all__ = ["GroupMemory", "cpu_list", "cpus", "memory", "oom_kills", "quota", "read_text"]


class GroupMemory(NamedTuple):
    """The tightest group: its limit, and what is left of it. What can be dropped from the page cache counts as left."""

    limit_bytes: int
    available_bytes: int


def quota(root: Path) -> float | None:
    """CPUs that may be busy at once by CFS quota, such as 2.5; None = no quota."""
    quotas = []
    for folder in _folders(root, "cpu"):
        words = read_text(folder / "cpu.max").split()  # v2: "max 100000" or "250000 100000"
        if not words:
            words = [read_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]) > 0:  # v1's "none" is -1
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def cpus(root: Path) -> frozenset[int] | None:
    """CPUs of the innermost group that names any; None = no CPU set. Parents are already counted in by the kernel."""
    for folder in _folders(root, "cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
            if allowed := cpu_list(read_text(folder / name)):
                return allowed
    return None


def memory(root: Path) -> GroupMemory | None:
    """The limit that leaves the least, over all groups; None = no limit (v1 may name one larger than the machine)."""
    limits = []
    for folder in _folders(root, "memory"):
        for limit_name, used_name, cache_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit = read_text(folder / limit_name).strip()
            if limit.isdigit():
                used = read_text(folder / used_name).strip()
                held = int(used or 0) - _field(folder / "memory.stat", cache_name)
                limits.append(GroupMemory(int(limit), max(0, int(limit) - max(0, held))))
    return min(limits, key=lambda one: one.available_bytes, default=None)


def oom_kills(root: Path) -> int:
    """How often the OOM killer struck in the innermost group that counts it; on the machine where none does (v1)."""
    for folder in _folders(root, "memory"):
        if text := read_text(folder / "memory.events"):
            return _field_of(text, "oom_kill")
    return _field(root / "proc/vmstat", "oom_kill")


def cpu_list(text: str) -> frozenset[int]:
    """The kernel's list format, "0-3,8,10-11", as numbers; empty where it is not one."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            return frozenset()
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def read_text(path: Path) -> str:
    """The file's text; empty where it is not there or not ours to read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _folders(root: Path, controller: str) -> list[Path]:
    """Folders of the process's group and its parents, innermost first, in every hierarchy that has the controller."""
    paths = _group_paths(root)
    mounts = _mounts(root) or {"": ("/", "sys/fs/cgroup"), controller: ("/", f"sys/fs/cgroup/{controller}")}
    folders = []
    for name in (controller, ""):  # v1 first: where both are mounted, a controller works in one of them
        if name not in mounts:
            continue
        mount_root, mount_point = mounts[name]
        top = root / mount_point.lstrip("/")
        own = _below(paths.get(name, "/"), mount_root)
        folders += [top.joinpath(*own.parts[:depth]) for depth in range(len(own.parts), -1, -1)]
    return folders


def _below(path: str, mount_root: str) -> PurePosixPath:
    """A group's path under the mount. One that lies outside (other namespace) is taken to be the mount itself."""
    group, top = PurePosixPath(path), PurePosixPath(mount_root)
    if group.is_relative_to(top) and ".." not in group.parts:
        return group.relative_to(top)
    return PurePosixPath()


def _group_paths(root: Path) -> dict[str, str]:
    """/proc/self/cgroup, "4:cpu,cpuacct:/a/b" a line, as controller -> path; v2 has the controller ""."""
    paths = {}
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _mounts(root: Path) -> dict[str, tuple[str, str]]:
    """/proc/self/mountinfo as controller -> (root within the hierarchy, mount point); the first of each counts."""
    mounts: dict[str, tuple[str, str]] = {}
    for line in read_text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        for controller in [""] if kind[0] == "cgroup2" else kind[2].split(","):
            mounts.setdefault(controller, (fields[3], fields[4]))
    return mounts


def _field(path: Path, name: str) -> int:
    return _field_of(read_text(path), name)


def _field_of(text: str, name: str) -> int:
    """The number of a "name number" line; 0 where there is none."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return 0
