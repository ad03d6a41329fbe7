"""Reads the machine into a snapshot: /proc, /sys, limits, folders, metadata of packages, nvidia-smi. No judgement here.

`read_machine` is called by the verb `doctor`. It takes some 0.1 s; where a GPU's driver sleeps, a second or two more.
"""

from __future__ import annotations

import http.client
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import tempfile
from contextlib import closing, suppress
from importlib import metadata, util
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import psutil

from nbserve import __version__, discovery
from nbserve.config import PROFILES
from nbserve.discovery import GatewayRecord
from nbserve.doctor.machine import Folder, Gpu, Machine, Package, RunningGateway
from nbserve.gateway.pool.cgroup import read_text
from nbserve.gateway.pool.topology import read_memory, read_topology

__all__ = ["parse_nvidia_smi", "read_machine", "torch_cuda"]

ENVIRONMENT = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "CUDA_VISIBLE_DEVICES",
)
PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
"""Their values may hold passwords: only that they are set is noted."""
EXEMPTIONS = ("no_proxy", "NO_PROXY")
ANSWER_TIMEOUT_S = 1.0
NVIDIA_SMI_TIMEOUT_S = 10.0
"""Without persistence mode the driver is loaded first, which takes seconds."""
DISTRIBUTION = "jupyter-nbserve"


def read_machine(root: Path = Path("/")) -> Machine:
    """A snapshot of this machine, as this process sees it. `root`: where proc, sys, dev and etc are."""
    asking = _ask_nvidia_smi()  # the slow one runs while the others are read
    memory = read_memory(root)
    periods, throttled = _throttling(root)
    open_files, open_files_most = (
        limit if limit != resource.RLIM_INFINITY else 2**20 for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    gateways, stale = _gateways()
    gpus, driver, cuda, error = _gpus(asking, root)
    frequency = root / "sys/devices/system/cpu/cpu0/cpufreq"
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        container=_container(root),
        cpus_online=os.cpu_count() or 1,
        topology=read_topology(root),
        can_pin=hasattr(os, "sched_setaffinity"),
        load_1m=os.getloadavg()[0],
        periods=periods,
        throttled_periods=throttled,
        governor=read_text(frequency / "scaling_governor").strip(),
        frequency_driver=read_text(frequency / "scaling_driver").strip(),
        clock_source=read_text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource").strip(),
        memory_total_bytes=memory.total_bytes,
        memory_available_bytes=memory.available_bytes,
        swap_used_bytes=psutil.swap_memory().used,
        oom_kills=memory.oom_kills,
        shm_bytes=_size(root / "dev/shm"),
        open_files=open_files,
        open_files_most=open_files_most,
        environment=_environment(),
        gpus=gpus,
        gpu_driver=driver,
        gpu_driver_cuda=cuda,
        gpu_error=error,
        python=platform.python_version(),
        nbserve=__version__,
        torch=_version("torch"),
        torch_cuda=_torch_cuda(),
        packages=_packages(),
        runtime_folder=_folder(discovery.runtime_dir()),
        temp_folder=_folder(Path(tempfile.gettempdir())),
        home_folder=_folder(discovery.home()),
        taken_ports=_taken_ports(),
        gateways=gateways,
        stale_records=stale,
    )


# -- cores, memory, container ----------------------------------------------------------------------------------------


def _throttling(root: Path) -> tuple[int, int]:
    """(periods, throttled periods) of the control group that is mounted on top, v2 or v1."""
    for name in ("cpu.stat", "cpu/cpu.stat", "cpu,cpuacct/cpu.stat"):
        fields = dict(line.split()[:2] for line in read_text(root / "sys/fs/cgroup" / name).splitlines() if " " in line)
        if "nr_periods" in fields:
            return int(fields["nr_periods"]), int(fields.get("nr_throttled", 0))
    return 0, 0


def _container(root: Path) -> str:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    return os.environ.get("container", "")  # noqa: SIM112 - as systemd-nspawn, LXC and others set it


def _size(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).total
    except OSError:
        return None


def _environment() -> dict[str, str]:
    found = {name: os.environ[name] for name in (*ENVIRONMENT, *EXEMPTIONS) if name in os.environ}
    return found | {name: "(set)" for name in PROXIES if os.environ.get(name)}


# -- GPUs ------------------------------------------------------------------------------------------------------------


def _ask_nvidia_smi() -> subprocess.Popen[bytes] | None:
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    with suppress(OSError):
        return subprocess.Popen([command, "-q", "-x"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return None


def _gpus(asking: subprocess.Popen[bytes] | None, root: Path) -> tuple[list[Gpu], str, str, str]:
    """(GPUs, driver, CUDA of the driver, what went wrong)"""
    if asking is None:
        has_devices = (root / "dev/nvidiactl").exists() or (root / "proc/driver/nvidia/version").exists()
        return [], "", "", "there is no nvidia-smi on the path" if has_devices else ""
    with asking:
        try:
            out, _ = asking.communicate(timeout=NVIDIA_SMI_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            asking.kill()
            return [], "", "", f"nvidia-smi did not answer within {NVIDIA_SMI_TIMEOUT_S:g} s"
    try:
        return *parse_nvidia_smi(out.decode(errors="replace")), ""
    except ElementTree.ParseError:
        said = " ".join(out.decode(errors="replace").split())[:200]
        return [], "", "", f"nvidia-smi ended with exit code {asking.returncode}: {said}"


def parse_nvidia_smi(text: str) -> tuple[list[Gpu], str, str]:
    """`nvidia-smi -q -x` (nvsmi_device_v11 to v13) -> (GPUs, driver, CUDA of the driver). Raises ParseError."""
    log = ElementTree.fromstring(text)
    gpus = [
        Gpu(
            gpu.findtext("product_name", "GPU"),
            _mebibytes(gpu.findtext("fb_memory_usage/total", "")),
            _mebibytes(gpu.findtext("fb_memory_usage/used", "")),
        )
        for gpu in log.iterfind("gpu")
    ]
    return gpus, log.findtext("driver_version", ""), log.findtext("cuda_version", "")


def _mebibytes(text: str) -> int:
    number = text.partition(" ")[0]
    return int(number) * 2**20 if number.isdigit() else 0


# -- software --------------------------------------------------------------------------------------------------------


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _torch_cuda() -> str:
    spec = util.find_spec("torch")  # of a top-level package: finds, does not import
    if spec is None or spec.origin is None:
        return ""
    return torch_cuda(read_text(Path(spec.origin).parent / "version.py"))


def torch_cuda(version_file: str) -> str:
    """The text of torch/version.py -> CUDA that it was built for, "12.8"; empty where it was for none."""
    match = re.search(r"^cuda\s*(?::[^=]+)?=\s*['\"]([\d.]+)['\"]", version_file, re.MULTILINE)
    return match[1] if match else ""


def _packages() -> list[Package]:
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return []
    found = []
    for one in requirements:
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            version = _version(one.name)
            is_met = bool(version) and one.specifier.contains(version, prereleases=True)
            found.append(Package(one.name, str(one.specifier), version, is_met))
    return found


# -- folders, ports, gateways ----------------------------------------------------------------------------------------


def _folder(path: Path) -> Folder:
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    exists = there == path
    status = there.stat()
    return Folder(
        path=str(path),
        exists=exists,
        writable=os.access(there, os.W_OK | os.X_OK),
        free_bytes=shutil.disk_usage(there).free,
        mode=status.st_mode & 0o777 if exists else 0o700,
        is_ours=not exists or status.st_uid == os.geteuid(),
    )


def _taken_ports() -> list[int]:
    server = PROFILES["server"]
    ports = [int(str(server[name])) for name in ("port", "management_port", "metrics_port")]
    return [port for port in ports if not _is_free(port)]


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _gateways() -> tuple[list[RunningGateway], int]:
    """(those that run, how many records of dead ones there were)"""
    before = discovery.record_files()
    records = discovery.records()
    stale = sum(not path.exists() for path in before)
    return [_running(record) for record in records], stale


def _running(record: GatewayRecord) -> RunningGateway:
    return RunningGateway(record.id, record.name, record.pid, record.url, record.version, _answers(record.url))


def _answers(url: str) -> bool:
    """Whether it gives any answer: /ping needs no token."""
    parts = urlsplit(url)
    with (
        suppress(OSError, http.client.HTTPException),
        closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_TIMEOUT_S)) as connection,
    ):
        connection.request("GET", "/ping")
        return connection.getresponse().status > 0
    return False
