"""The reader of the doctor: files as kernels write them, nvidia-smi as it answers or does not, this very machine."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from nbserve import discovery
from nbserve.doctor import Machine, reader
from nbserve.doctor.machine import Gpu
from nbserve.doctor.reader import parse_nvidia_smi, read_machine, torch_cuda
from tests.unit.gateway.running import running

MIB = 2**20
PARTITIONED = """\
<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <driver_version>535.54.03</driver_version>
  <cuda_version>12.2</cuda_version>
  <attached_gpus>2</attached_gpus>
  <gpu id="00000000:01:00.0">
    <product_name>NVIDIA A100-SXM4-80GB</product_name>
    <mig_devices><mig_device><fb_memory_usage><total>19968 MiB</total><used>12 MiB</used></fb_memory_usage>
    </mig_device></mig_devices>
    <fb_memory_usage><total>81920 MiB</total><reserved>869 MiB</reserved><used>50 MiB</used></fb_memory_usage>
  </gpu>
  <gpu id="00000000:02:00.0">
    <product_name>NVIDIA T4</product_name>
    <fb_memory_usage><total>N/A</total><used>N/A</used></fb_memory_usage>
  </gpu>
</nvidia_smi_log>
"""


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("NBSERVE_HOME", str(tmp_path / "home"))


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def put_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    command = folder / "bin" / "nvidia-smi"
    put(folder, {"bin/nvidia-smi": f"#!{sys.executable}\n{script}"})
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")


def test_this_machine(tmp_path: Path) -> None:
    machine = read_machine()
    assert {core.cpu for core in machine.topology.cores} <= os.sched_getaffinity(0)
    assert machine.memory_available_bytes <= machine.memory_total_bytes
    assert machine.open_files == min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], machine.open_files_most)
    assert machine.python == sys.version.split()[0]
    assert {package.name for package in machine.packages if package.is_met} >= {"click", "tornado", "psutil", "rich"}
    assert machine.runtime_folder.path == str(tmp_path / "runtime")
    assert not machine.runtime_folder.exists
    assert machine.runtime_folder.writable
    assert machine.gateways == []
    assert msgspec.json.decode(msgspec.json.encode(machine), type=Machine) == machine


def test_the_command_is_quick_imports_no_torch_and_its_json_is_the_diagnosis() -> None:
    program = (
        "import sys; from nbserve import cli; code = cli.run(['doctor', '--json']);"
        "heavy = {'torch', 'numpy', 'httpx', 'tornado', 'IPython'} & set(sys.modules);"
        "sys.exit(repr(heavy) if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    said = json.loads(done.stdout)
    has_problem = any(finding["level"] == "problem" for finding in said["findings"])
    assert done.returncode == int(has_problem), done.stderr
    assert [placement["workers"] for placement in said["placements"]] == ["1", "2", "auto"]
    assert said["machine"]["cpus_online"] == os.cpu_count()


def test_what_the_files_of_the_kernel_say(tmp_path: Path) -> None:
    root = put(
        tmp_path / "root",
        {
            "sys/fs/cgroup/cpu.stat": "usage_usec 5\nnr_periods 400\nnr_throttled 100\nthrottled_usec 9\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "acpi-cpufreq\n",
            "sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet\n",
            "sys/devices/system/cpu/online": "0-1\n",
            "proc/self/status": "Cpus_allowed_list:\t0-1\n",
            "run/.containerenv": "",
        },
    )
    machine = read_machine(root)
    assert (machine.periods, machine.throttled_periods) == (400, 100)
    assert (machine.governor, machine.frequency_driver) == ("powersave", "acpi-cpufreq")
    assert machine.clock_source == "hpet"
    assert machine.container == "podman"
    assert len(machine.topology.cores) == 2
    assert machine.shm_bytes is None


def test_throttling_of_a_v1_group_and_of_none(tmp_path: Path) -> None:
    stat_v1 = {"sys/fs/cgroup/cpu/cpu.stat": "nr_periods 10\nnr_throttled 1\nthrottled_time 3\n"}
    assert read_machine(put(tmp_path / "v1", stat_v1)).throttled_periods == 1
    v2_top = {"sys/fs/cgroup/cpu.stat": "usage_usec 5\nuser_usec 3\n"}  # the root group counts no periods
    assert read_machine(put(tmp_path / "v2", v2_top)).periods == 0


@pytest.mark.parametrize(
    ("name", "kind"), [("KUBERNETES_SERVICE_HOST", "kubernetes"), ("container", "lxc")], ids=["kubernetes", "lxc"]
)
def test_containers_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    for other in ("KUBERNETES_SERVICE_HOST", "container"):
        monkeypatch.delenv(other, raising=False)
    assert read_machine(tmp_path).container == ""
    monkeypatch.setenv(name, kind)
    assert read_machine(tmp_path).container == kind


def test_proxies_are_seen_and_their_passwords_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://ada:secret@proxy:3128")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    machine = read_machine()
    assert machine.environment["http_proxy"] == "(set)"
    assert machine.environment["OMP_NUM_THREADS"] == "3"
    assert b"secret" not in msgspec.json.encode(machine)


def test_ports_that_are_taken(tmp_path: Path) -> None:
    with running(port=0) as gateway:
        assert not reader._is_free(gateway.port)
    assert reader._is_free(gateway.port)


def test_gateways_that_run_and_records_of_dead_ones() -> None:
    with running(name="lab.ipynb") as gateway:
        [found] = read_machine().gateways
        assert (found.name, found.pid, found.answers) == ("lab.ipynb", gateway.process.pid, True)
        [record] = discovery.records()
    discovery.publish(record)  # as one leaves it that was killed
    machine = read_machine()
    assert (machine.gateways, machine.stale_records) == ([], 1)
    assert (read_machine().stale_records, discovery.record_files()) == (0, [])


def test_a_gateway_that_hangs_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "ANSWER_TIMEOUT_S", 0.2)
    with running() as gateway:
        os.kill(gateway.process.pid, signal.SIGSTOP)
        try:
            [found] = read_machine().gateways
        finally:
            os.kill(gateway.process.pid, signal.SIGCONT)
        assert not found.answers


# -- GPUs ------------------------------------------------------------------------------------------------------------


def test_gpus_their_memory_and_not_that_of_their_parts() -> None:
    gpus, driver, cuda = parse_nvidia_smi(PARTITIONED)
    assert gpus == [Gpu("NVIDIA A100-SXM4-80GB", 81920 * MIB, 50 * MIB), Gpu("NVIDIA T4", 0, 0)]
    assert (driver, cuda) == ("535.54.03", "12.2")
    with pytest.raises(ElementTree.ParseError):
        parse_nvidia_smi("NVIDIA-SMI has failed")


def test_nvidia_smi_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, f"import sys\nassert sys.argv[1:] == ['-q', '-x']\nprint({PARTITIONED!r})")
    machine = read_machine()
    assert [gpu.name for gpu in machine.gpus] == ["NVIDIA A100-SXM4-80GB", "NVIDIA T4"]
    assert (machine.gpu_driver, machine.gpu_driver_cuda, machine.gpu_error) == ("535.54.03", "12.2", "")


def test_nvidia_smi_that_fails_or_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, "import sys\nprint('cannot communicate with the driver')\nsys.exit(9)")
    assert read_machine().gpu_error == "nvidia-smi ended with exit code 9: cannot communicate with the driver"
    monkeypatch.setattr(reader, "NVIDIA_SMI_TIMEOUT_S", 0.2)
    put_nvidia_smi(tmp_path, monkeypatch, "import time\ntime.sleep(600)")
    assert read_machine().gpu_error == "nvidia-smi did not answer within 0.2 s"


def test_device_files_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_machine(tmp_path).gpu_error == ""
    assert "no nvidia-smi" in read_machine(put(tmp_path, {"dev/nvidiactl": ""})).gpu_error


@pytest.mark.parametrize(
    ("line", "cuda"),
    [("cuda: Optional[str] = '12.8'", "12.8"), ("cuda = '11.7'", "11.7"), ("cuda: Optional[str] = None", ""), ("", "")],
)
def test_the_cuda_of_torch_without_importing_it(line: str, cuda: str) -> None:
    text = (
        f"from typing import Optional\n__all__ = ['cuda']\n__version__ = '2.13.0'\ndebug = False\n{line}\nhip = '6.2'\n"
    )
    assert torch_cuda(text) == cuda


def test_the_cuda_of_the_torch_that_is_installed() -> None:
    import torch

    assert read_machine().torch_cuda == (torch.version.cuda or "")
