"""Rules of the doctor on what the machine is: cores, load, clock, memory, GPUs. Pure; called by diagnosis.py.

Each rule yields what is wrong or noteworthy in its area; where that is nothing, `SUMMARY` says what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nbserve.doctor.finding import Finding, note, problem, warning
from nbserve.doctor.machine import Machine
from nbserve.gateway.pool.placement import RESERVE_FROM
from nbserve.gateway.pool.topology import format_cpus
from nbserve.tables import megabytes

__all__ = ["RULES", "SUMMARY"]

MIB = 2**20
THROTTLED_SHARE = 0.05
"""One in twenty: the 95th percentile is then what the quota makes of it."""
SLOW_CLOCKS = ("acpi_pm", "hpet", "jiffies", "refined-jiffies", "xen")
"""Clock sources that the kernel reads for a program, a system call each, instead of the program itself (vdso(7))."""
DYNAMIC_DRIVERS = ("intel_pstate", "amd-pstate-epp")
"""Their governor "powersave" clocks up under load (Documentation/admin-guide/pm/intel_pstate.rst)."""
FIRST_ENDPOINT_BYTES = 256 * MIB
"""A gateway (about 45 MB) and one worker with torch (about 165 MB), before any weights: measured."""
COMFORT_BYTES = 1024 * MIB
SWAPPED_SHARE = 0.05
DOCKER_SHM_BYTES = 64 * MIB
"""Docker's default for /dev/shm."""
GPU_USED_SHARE = 0.1
GPU_FULL_SHARE = 0.9


def cores(machine: Machine) -> Iterator[Finding]:
    """How many may be used, and who limits them."""
    topology, count = machine.topology, len(machine.topology.cores)
    if not machine.can_pin:
        yield note("cores", f"processes cannot be pinned to cores on {machine.system}", "workers share all cores")
    if count < machine.cpus_online:
        allowed = format_cpus(core.cpu for core in topology.cores)
        yield note(
            "cores",
            f"{count} of {machine.cpus_online} CPUs are allowed here: {allowed}",
            "a Hub, a container or taskset gave this process no more; workers stay within them",
        )
    if topology.usable == 1:
        yield warning(
            "cores",
            "1 core can be used",
            "gateway, worker and notebook take turns on it: a busy cell slows every request",
            "ask for 2 cores or more; until then --workers 1, and no heavy cells while it serves",
        )
    elif topology.usable < RESERVE_FROM:
        yield note(
            "cores",
            f"{topology.usable} cores can be used",
            f"below {RESERVE_FROM}, none is kept for gateway and notebook: a busy cell takes time from the workers",
        )
    nodes = {core.node for core in topology.cores}
    if len(nodes) > 1:
        yield note(
            "cores",
            f"{len(nodes)} NUMA nodes",
            "memory of another node is slower: a worker is kept within one, with no more threads than that has cores",
        )


def quota(machine: Machine) -> Iterator[Finding]:
    """CPU time that the control group gives, and whether it ran out."""
    limit, count = machine.topology.quota, len(machine.topology.cores)
    if limit is not None and limit < count:
        make = warning if limit < 1 else note
        yield make(
            "quota",
            f"a quota of {limit:g} CPUs over {count} that are visible",
            "who uses it up is stopped for the rest of a period of mostly 100 ms: answers then take that much longer",
            f"threads are planned for {machine.topology.usable}; ask for a quota of whole CPUs, or a larger one",
        )
    if machine.periods and machine.throttled_periods > THROTTLED_SHARE * machine.periods:
        share = machine.throttled_periods / machine.periods
        yield warning(
            "quota",
            f"the quota was used up in {share:.0%} of {machine.periods} periods",
            "each time all threads stood still until the next period",
            "a larger quota, or fewer --workers and --threads",
        )


def load(machine: Machine) -> Iterator[Finding]:
    """What else runs here."""
    share = machine.load_1m / machine.cpus_online
    said = f"load {machine.load_1m:.1f} on {machine.cpus_online} CPUs"
    if share > 1:
        yield warning(
            "load",
            said,
            "others wait for the same cores: latencies that are measured now are not the model's",
            "see what runs (top); measure again when it has ended",
        )
    elif share > 0.5:
        yield note("load", said, "a measurement now has noise in it")


def clock(machine: Machine) -> Iterator[Finding]:
    """Reading the time is a matter of nanoseconds, or of a system call."""
    if machine.clock_source in SLOW_CLOCKS:
        yield warning(
            "clock",
            f"the clock source is {machine.clock_source}",
            "each look at the clock is a system call of about a microsecond, and every request takes several",
            "where the machine is yours: boot with clocksource=tsc, or the hypervisor's own clock",
        )
    if machine.governor == "powersave" and machine.frequency_driver not in DYNAMIC_DRIVERS:
        yield note(
            "clock",
            f"the frequency governor is powersave ({machine.frequency_driver})",
            "cores stay at their lowest frequency",
            "where the machine is yours: cpupower frequency-set -g schedutil",
        )


def memory(machine: Machine) -> Iterator[Finding]:
    """What is free, and what has gone wrong with it."""
    available, total = machine.memory_available_bytes, machine.memory_total_bytes
    said = f"{megabytes(available)} of {megabytes(total)} free"
    if available < FIRST_ENDPOINT_BYTES:
        yield problem(
            "memory",
            said,
            f"gateway and one worker with torch take {megabytes(FIRST_ENDPOINT_BYTES)} before any weights",
            "end other kernels, or ask for more memory",
        )
    elif available < COMFORT_BYTES:
        yield warning(
            "memory",
            said,
            "each worker with torch takes about 165 MB beside the weights, which all workers share",
            "--workers 1 and --max-rss; --swap stop-first where old and new version do not fit together",
        )
    if machine.swap_used_bytes > SWAPPED_SHARE * total:
        yield warning(
            "memory",
            f"{megabytes(machine.swap_used_bytes)} are swapped out",
            "weights that were swapped out come back page by page while a request waits",
            "free memory; where the machine is yours: swapoff -a && swapon -a",
        )
    if machine.oom_kills:
        yield note(
            "memory",
            f"the OOM killer has struck {machine.oom_kills} times",
            "a worker that it ends is started again, and its requests are tried again; a kernel that it ends is gone",
            "dmesg names the processes; --max-rss recycles a worker before",
        )
    if machine.shm_bytes is not None and machine.shm_bytes <= DOCKER_SHM_BYTES:
        yield note(
            "memory",
            f"/dev/shm has {megabytes(machine.shm_bytes)}",
            "nbserve does not use it; a handler that shares tensors between processes of its own soon fills it",
            "docker run --shm-size=1g, or an emptyDir of medium Memory at /dev/shm",
        )


def gpus(machine: Machine) -> Iterator[Finding]:
    """GPUs, their driver, and whether torch was built for them."""
    if machine.gpu_error:
        yield warning(
            "GPUs",
            f"there is an NVIDIA driver, but {machine.gpu_error}",
            "workers with --device auto find out only when they load",
            "run nvidia-smi; containers get it with NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        )
    if not machine.gpus:
        return
    if machine.environment.get("CUDA_VISIBLE_DEVICES") == "":
        yield note("GPUs", "CUDA_VISIBLE_DEVICES is empty", "the GPUs are hidden from notebook and workers")
    if machine.torch and not machine.torch_cuda:
        yield warning(
            "GPUs",
            f"torch {machine.torch} was built without CUDA",
            f"it cannot use {_names(machine)}: everything is computed on the CPU",
            "install a CUDA build of torch",
        )
    elif machine.torch_cuda and machine.gpu_driver_cuda:
        yield from _driver(machine)
    for gpu in machine.gpus:
        yield from _gpu_memory(gpu.name, gpu.used_bytes, gpu.total_bytes)


def _driver(machine: Machine) -> Iterator[Finding]:
    """Within one major version of CUDA newer builds run on older drivers (CUDA compatibility guide)."""
    built, runs = _version(machine.torch_cuda), _version(machine.gpu_driver_cuda)
    said = f"torch was built for CUDA {machine.torch_cuda}, driver {machine.gpu_driver} runs {machine.gpu_driver_cuda}"
    if built[0] > runs[0]:
        yield problem("GPUs", said, "CUDA does not start", "a newer driver, or torch built for an older CUDA")
    elif built > runs:
        yield note(
            "GPUs", said, "it works but for kernels that are compiled on the fly", "a newer driver where you can"
        )


def _gpu_memory(name: str, used_bytes: int, total_bytes: int) -> Iterator[Finding]:
    if not total_bytes:
        return
    said = f"{megabytes(used_bytes)} of {megabytes(total_bytes)} of {name} are in use"
    if used_bytes > GPU_FULL_SHARE * total_bytes:
        yield warning("GPUs", said, "little is left for a model", "nvidia-smi names the processes that hold it")
    elif used_bytes > GPU_USED_SHARE * total_bytes:
        yield note("GPUs", said, "others, or this notebook, hold it: each worker needs a copy of the weights beside")


def _names(machine: Machine) -> str:
    return ", ".join(sorted({gpu.name for gpu in machine.gpus}))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


# -- what there is, where no rule has anything to say ----------------------------------------------------------------


def _cores_summary(machine: Machine) -> str:
    cores = machine.topology.cores
    physical = len({core.physical for core in cores})
    caches, nodes = len({core.l3 for core in cores}), len({core.node for core in cores})
    slower = sum(core.tier > 0 for core in cores)
    parts = [
        f"{len(cores)} CPUs on {physical} physical cores" if physical < len(cores) else f"{len(cores)} cores",
        f"{slower} of them efficiency cores" if slower else "",
        f"{caches} L3 groups" if caches > 1 else "",
        f"{nodes} NUMA nodes" if nodes > 1 else "",
    ]
    return ", ".join(filter(None, parts))


def _gpus_summary(machine: Machine) -> str:
    if not machine.gpus:
        return "none"
    return f"{len(machine.gpus)} x {_names(machine)}, driver {machine.gpu_driver}"


RULES: dict[str, Callable[[Machine], Iterator[Finding]]] = {
    "cores": cores,
    "quota": quota,
    "load": load,
    "clock": clock,
    "memory": memory,
    "GPUs": gpus,
}
SUMMARY: dict[str, Callable[[Machine], str]] = {
    "cores": _cores_summary,
    "quota": lambda machine: f"{machine.topology.quota:g} CPUs" if machine.topology.quota is not None else "none",
    "load": lambda machine: f"{machine.load_1m:.1f} on {machine.cpus_online} CPUs",
    "clock": lambda machine: machine.clock_source or "unknown source",
    "memory": lambda machine: (
        f"{megabytes(machine.memory_available_bytes)} of {megabytes(machine.memory_total_bytes)} free"
    ),
    "GPUs": _gpus_summary,
}
