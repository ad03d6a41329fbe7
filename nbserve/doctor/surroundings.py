"""Rules of the doctor on what surrounds a server: environment, limits, packages, folders, ports, gateways. Pure.

Each rule yields what is wrong or noteworthy in its area; where that is nothing, `SUMMARY` says what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nbserve.doctor.finding import Finding, note, problem, warning
from nbserve.doctor.machine import Folder, Machine
from nbserve.launch import BINDINGS
from nbserve.tables import megabytes

__all__ = ["RULES", "SUMMARY"]

THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Set for every worker by gateway/pool; what the notebook has is its own."""
FDS_TOO_FEW = 64
FDS_FEW = 256
FDS_DEFAULT = 1024
FDS_PER_WORKER = 13
"""That a gateway holds beside some 20 of its own: the stream, and Jupyter's sockets. Counted with 1 and 4 workers."""
SOCKET_FOLDER_CHARS = 44
"""A longer temporary folder is left for /tmp: paths of unix sockets end at 107 characters (unix(7))."""
TEMP_FREE_BYTES = 100 * 10**6
HOME_FREE_BYTES = 10**9
LOOPBACK = ("127.0.0.1", "localhost", "*")


def system(machine: Machine) -> Iterator[Finding]:
    """What nbserve was made for."""
    if not machine.system.startswith("Linux"):
        yield warning(
            "system",
            machine.system,
            "pinning to cores, and ends that are noticed at once, are Linux's; elsewhere it works without",
            "serve on Linux",
        )


def threads(machine: Machine) -> Iterator[Finding]:
    """Variables that change how many threads compute, and where."""
    given = machine.environment
    counts = {name: given[name] for name in THREAD_COUNTS if name in given}
    if counts:
        shown = ", ".join(f"{name}={value}" for name, value in counts.items())
        most = max((int(value) for value in counts.values() if value.isdigit()), default=0)
        why = "workers have their own count (--threads): the same model takes another time in the notebook"
        if most > machine.topology.usable:
            yield warning(
                "threads",
                shown,
                f"more threads than the {machine.topology.usable} cores that can be used: those of the notebook take "
                "turns",
                f"unset {' '.join(counts)}, or set it to {machine.topology.usable}",
            )
        else:
            yield note("threads", shown, why)
    bound = {name: given[name] for name in BINDINGS if given.get(name)}
    if bound and given.get("OMP_PROC_BIND", "").lower() != "false":
        shown = ", ".join(f"{name}={value}" for name, value in bound.items())
        yield warning(
            "threads",
            shown,
            "after the first parallel computation the notebook's main thread stays on one core, as do processes that "
            "it starts then (not the gateway, which gets them back): a handler is slower here than in a worker",
            f"unset {' '.join(bound)} before the notebook starts",
        )
    if given.get("KMP_BLOCKTIME", "") == "infinite":
        yield warning(
            "threads",
            "KMP_BLOCKTIME=infinite",
            "threads that wait keep their core busy, for other workers too",
            "unset KMP_BLOCKTIME",
        )


def proxy(machine: Machine) -> Iterator[Finding]:
    """A proxy between a client and its own machine."""
    proxies = [name for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY") if name in machine.environment]
    exempt = ",".join(machine.environment.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    if proxies and not any(word.strip() in LOOPBACK for word in exempt.split(",")):
        yield warning(
            "proxy",
            f"{proxies[0]} is set, and no_proxy lacks 127.0.0.1",
            "curl and requests send what is meant for an endpoint here to the proxy (nbserve itself does not)",
            "export no_proxy=127.0.0.1,localhost",
        )


def open_files(machine: Machine) -> Iterator[Finding]:
    """Connections and workers are open files."""
    limit = machine.open_files
    if limit > FDS_DEFAULT:
        return
    make = problem if limit <= FDS_TOO_FEW else warning if limit <= FDS_FEW else note
    yield make(
        "open files",
        f"{limit} open files",
        f"one for each client's connection, {FDS_PER_WORKER} for each worker: beyond, connections are refused",
        f"ulimit -n {machine.open_files_most}, before the notebook starts",
    )


def packages(machine: Machine) -> Iterator[Finding]:
    """What nbserve needs, and torch."""
    for one in machine.packages:
        if not one.is_met:
            yield problem(
                "packages",
                f"{one.name} {one.found or 'is not installed'}",
                f"nbserve needs {one.name}{one.wanted}",
                f'pip install "{one.name}{one.wanted}"',
            )
    if not machine.torch:
        yield note(
            "packages",
            "torch is not installed",
            "handlers without it are welcome; nn.Module and tensors need it",
            'pip install "jupyter-nbserve[torch]"',
        )


def folders(machine: Machine) -> Iterator[Finding]:
    """Where records, sockets and bundles go."""
    runtime, temp, home = machine.runtime_folder, machine.temp_folder, machine.home_folder
    if not runtime.writable:
        yield _unwritable(runtime, "gateways leave their record there and are found by it", "JUPYTER_RUNTIME_DIR")
    elif not runtime.is_ours:
        yield warning(
            "folders",
            f"{runtime.path} belongs to another user",
            "who owns the folder can take the records of gateways away, or put others there",
            "JUPYTER_RUNTIME_DIR=a folder of yours",
        )
    elif runtime.mode & 0o022:
        yield warning(
            "folders",
            f"{runtime.path} may be written by others (mode {runtime.mode:o})",
            "they can put a record there that leads clients to a gateway of theirs",
            f"chmod 700 {runtime.path}",
        )
    if len(temp.path) > SOCKET_FOLDER_CHARS:
        yield note(
            "folders",
            f"the temporary folder's path has {len(temp.path)} characters: {temp.path}",
            f"over {SOCKET_FOLDER_CHARS} the workers' sockets would not fit in: they go to /tmp",
        )
    elif not temp.writable:
        yield _unwritable(temp, "the workers' sockets go there", "TMPDIR")
    elif temp.free_bytes < TEMP_FREE_BYTES:
        yield _full(temp, "sockets and logs go there")
    if not home.writable:
        yield _unwritable(home, "bundles go there", "NBSERVE_HOME")
    elif home.free_bytes < HOME_FREE_BYTES:
        yield _full(home, "each serve writes a bundle there, weights included; five of an endpoint are kept")


def _unwritable(folder: Folder, why: str, variable: str) -> Finding:
    return problem("folders", f"{folder.path} cannot be written", why, f"{variable}=a folder of yours")


def _full(folder: Folder, why: str) -> Finding:
    free = f"{megabytes(folder.free_bytes)} free in {folder.path}"
    return warning("folders", free, why, "free some space, or choose another folder")


def ports(machine: Machine) -> Iterator[Finding]:
    """The ports that `nbserve serve` takes where none are given."""
    if machine.taken_ports:
        taken = ", ".join(map(str, machine.taken_ports))
        yield note(
            "ports",
            f"taken: {taken}",
            "`nbserve serve` takes 8080, 8081 and 8082 by default; notebooks take any free one",
            "nbserve serve BUNDLE --port 0, or ports of your choice",
        )


def gateways(machine: Machine) -> Iterator[Finding]:
    """Those that run, and traces of those that do not."""
    for one in machine.gateways:
        if not one.answers:
            yield warning(
                "gateways",
                f"{one.name or one.id} (pid {one.pid}) does not answer at {one.url}",
                "its process lives, but is stuck or out of CPU time",
                f"nbserve stop --all --gateway {one.id}; then kill {one.pid}",
            )
        elif one.version != machine.nbserve:
            yield warning(
                "gateways",
                f"{one.name or one.id} (pid {one.pid}) is of nbserve {one.version}, this is {machine.nbserve}",
                "they may not understand each other",
                "restart the kernel that it belongs to, or nbserve stop it and serve again",
            )
    if machine.stale_records:
        yield note(
            "gateways",
            f"{machine.stale_records} records of gateways that are gone",
            "they were killed, or the machine was; the records have been removed now",
        )


def _folders_summary(machine: Machine) -> str:
    return f"{megabytes(machine.home_folder.free_bytes)} free for bundles in {machine.home_folder.path}"


RULES: dict[str, Callable[[Machine], Iterator[Finding]]] = {
    "system": system,
    "threads": threads,
    "proxy": proxy,
    "open files": open_files,
    "packages": packages,
    "folders": folders,
    "ports": ports,
    "gateways": gateways,
}
SUMMARY: dict[str, Callable[[Machine], str]] = {
    "system": lambda machine: ", ".join(
        filter(None, [machine.system, f"container: {machine.container}" if machine.container else ""])
    ),
    "threads": lambda machine: "nothing set that interferes",
    "proxy": lambda machine: "none between clients and this machine",
    "open files": lambda machine: f"{machine.open_files}",
    "packages": lambda machine: (
        f"Python {machine.python}, nbserve {machine.nbserve}" + (f", torch {machine.torch}" if machine.torch else "")
    ),
    "folders": _folders_summary,
    "ports": lambda machine: "8080, 8081, 8082 are free",
    "gateways": lambda machine: f"{len(machine.gateways)} running",
}
