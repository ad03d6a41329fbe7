"""Launches worker kernels for jupyter_client: a LocalProvisioner that adds the data stream and the status page.

Found by jupyter_client through the entry point in pyproject.toml, because the in-memory KernelSpec (`kernel_spec`)
names it; nothing is installed into Lab's launcher. Used by gateway/pool/worker.py only.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any, NamedTuple

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from nbserve.wire.statuspage import StatusPage

__all__ = ["PROVISIONER", "Channel", "MemoryKernelSpecs", "NbserveProvisioner"]

PROVISIONER = "nbserve-provisioner"
KERNEL = "nbserve-worker"
SOCKET_BUFFER_BYTES = 1 << 20


class Channel(NamedTuple):
    """The gateway's ends of one worker's stream and status page."""

    sock: socket.socket
    page: StatusPage

    def close(self) -> None:
        """Close both."""
        self.sock.close()
        self.page.close()


class NbserveProvisioner(LocalProvisioner):
    """One launch: a fresh stream and page are made, their far ends handed to the kernel by number."""

    channel: Channel | None = None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Called by KernelManager.start_kernel; `self.channel` is new after each call."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        page = StatusPage.create()
        page.set_progress(0, "start")
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        ours.setblocking(False)
        env = dict(kwargs.pop("env", None) or os.environ)
        env["NBSERVE_DATA_FD"] = str(theirs.fileno())
        env["NBSERVE_STATUS_FD"] = str(page.fd)
        try:
            info = await super().launch_kernel(cmd, env=env, pass_fds=(theirs.fileno(), page.fd), **kwargs)
        except BaseException:
            ours.close()
            page.close()
            raise
        finally:
            theirs.close()
        self.channel = Channel(ours, page)
        return info


class MemoryKernelSpecs(KernelSpecManager):
    """The one KernelSpec of worker kernels, never written to disk."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The worker's spec, whatever the name."""
        return KernelSpec(
            argv=[
                sys.executable,
                "-m",
                "nbserve.worker",
                "-f",
                "{connection_file}",
                "--HistoryManager.enabled=False",
                "--IPKernelApp.exec_PYTHONSTARTUP=False",
            ],
            display_name=KERNEL,
            language="python",
            metadata={"kernel_provisioner": {"provisioner_name": PROVISIONER}},
        )
