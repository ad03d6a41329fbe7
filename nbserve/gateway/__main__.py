"""`python -m nbserve.gateway`: the gateway process. Started by nbserve/launch.

Reads one GatewayConfig as a line of JSON on standard input, binds the ports, and writes one line of JSON on standard
output: where it listens, or {"error": ErrorInfo} and exit code 1. After that it reads and writes neither; its log is
standard error.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from nbserve.config import GatewayConfig
from nbserve.errors import NbserveError, UsageError
from nbserve.gateway.gateway import Gateway
from nbserve.gateway.ports import Ports, bind_ports
from nbserve.process_name import name_process

__all__ = ["main"]

log = logging.getLogger("nbserve.gateway")

MAX_CONFIG_BYTES = 1 << 20
SWITCH_S = 5e-4
"""A thread that reads a bundle or starts a process gives way to the loop after this (Python's default is 5 ms)."""


def main() -> int:
    """0 after an orderly end, 1 where the gateway could not start."""
    name_process("nbserve-gateway")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("tornado").setLevel(logging.WARNING)
    try:
        config = read_config(sys.stdin.buffer.readline(MAX_CONFIG_BYTES))
        ports = bind_ports(config)
    except NbserveError as exc:
        _say({"error": exc.to_info()})
        return 1
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(config, ports))
    finally:
        ports.close()
    return 0


def read_config(line: bytes) -> GatewayConfig:
    """The line on standard input. Raises UsageError, also where a token must be given and is not."""
    try:
        config = msgspec.json.decode(line, type=GatewayConfig)
    except msgspec.MsgspecError as exc:
        raise UsageError(f"the gateway's configuration cannot be read: {exc}") from exc
    if not config.token and config.profile != "container":
        raise UsageError(f"the {config.profile} profile needs a token", hint="only a container may go without one")
    return config


async def _run(config: GatewayConfig, ports: Ports) -> None:
    sys.setswitchinterval(SWITCH_S)
    gateway = Gateway(config, ports)
    gc.collect()
    gc.freeze()  # what is there now stays: a full collection goes through it for 20 ms, and requests wait
    await gateway.run(lambda: _announce(ports))


def _announce(ports: Ports) -> None:
    _say(
        {
            "url": ports.url,
            "port": ports.port,
            "management_url": ports.management_url,
            "metrics_url": ports.metrics_url,
            "pid": os.getpid(),
        }
    )
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)  # whatever prints from now on prints to the log


def _say(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed: it carries connections for less."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory


if __name__ == "__main__":
    sys.exit(main())
