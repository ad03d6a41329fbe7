"""The parts of a gateway put together, and its life: start, wait, stop.

Run by gateway/__main__ in a process of its own. Ports are bound before (gateway/ports); everything else is made here
and is gone when `run` returns: workers, sockets, the discovery record, the folder of sockets.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

import nbserve
from nbserve import discovery
from nbserve.config import GatewayConfig
from nbserve.gateway.access import Access
from nbserve.gateway.batcher import QueueTotal
from nbserve.gateway.events import EventBus, Rates
from nbserve.gateway.exchange import Limits
from nbserve.gateway.failures import FailureStore
from nbserve.gateway.http import HttpServer, Site
from nbserve.gateway.inference import Inference
from nbserve.gateway.management import make_app
from nbserve.gateway.metrics_page import MetricsPage
from nbserve.gateway.owner import OwnerWatch
from nbserve.gateway.pool.topology import read_memory, read_topology
from nbserve.gateway.pool.zygote import Zygotes
from nbserve.gateway.ports import Ports
from nbserve.gateway.profile_always import is_profiling_asked, profile_always
from nbserve.gateway.profiles import Profiles
from nbserve.gateway.recorder import Recorder
from nbserve.gateway.registry import Registry
from nbserve.gateway.runtime_dir import RuntimeDir
from nbserve.gateway.version import Surroundings
from nbserve.gateway.web import Services
from nbserve.wire.management import GatewayStatus

__all__ = ["Gateway"]

log = logging.getLogger("nbserve.gateway")

LAST_REPLIES_S = 0.2
"""Given to connections to take the last replies when the gateway stops."""


class Gateway:
    """One gateway on bound ports. Construct and `run` inside a running loop."""

    def __init__(self, config: GatewayConfig, ports: Ports) -> None:
        self.config = config
        self._ports = ports
        self._began_s = time.monotonic()
        self._folder = RuntimeDir()
        self._stop_asked = asyncio.Event()
        self._grace_s = config.shutdown_grace_s
        self._bus = EventBus()
        total = QueueTotal(config.max_queue_bytes)
        self._zygotes = Zygotes(self._folder.path)
        failures = FailureStore()
        surroundings = Surroundings(
            self._folder.path,
            self._bus.emit,
            ports.url,
            total,
            zygotes=self._zygotes,
            failures=failures,
            placed=self._tell_cpus,
            others=self._cpus_of_others,
        )
        self.registry = Registry(surroundings, read_topology(), grace_s=config.shutdown_grace_s)
        self._rates = Rates(self._bus, self.registry.rates)
        self._metrics = MetricsPage(self.registry.views)
        recorder = Recorder(time.monotonic)
        self._profiles = Profiles(self.registry, self._folder.path / "profiles")
        self._inference = Inference(
            self.registry,
            self._bus,
            recorder,
            clock=time.monotonic,
            development=config.development,
            # where nobody needs a token, nobody may have requests profiled
            profile=self._profiles.profile_request if config.token else None,
        )
        self._access = Access(
            host=config.host, allow_hosts=config.allow_hosts, token=config.token, owner_token=config.owner_token
        )
        self._services = Services(
            registry=self.registry,
            recorder=recorder,
            profiles=self._profiles,
            bus=self._bus,
            metrics=self._metrics,
            status=self.status,
            shutdown=self.ask_to_stop,
            development=config.development,
            may_manage=self._access.may_manage,
            is_ready=self._is_ready,
        )
        self._servers = self._serve()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until asked to stop or the owner has gone; `on_ready` is called once connections are accepted."""
        record = self._publish()
        owner = OwnerWatch(self.config.owner_pid, self._owner_gone) if self.config.owner_pid is not None else None
        self._catch_signals()
        following = asyncio.create_task(profile_always(self._profiles, self.registry)) if is_profiling_asked() else None
        try:
            on_ready()
            await self._stop_asked.wait()
        finally:
            if following is not None:
                following.cancel()
            discovery.remove(record)
            if owner is not None:
                owner.close()
            await self._stop()

    def ask_to_stop(self, grace_s: float | None = None) -> None:
        """End soon: finish what is in hand within the grace (default: `shutdown_grace_s`)."""
        if grace_s is not None:
            self._grace_s = min(self._grace_s, grace_s)
        self._stop_asked.set()

    async def status(self) -> GatewayStatus:
        """GET /status."""
        models = await self.registry.statuses()
        memory = await asyncio.to_thread(read_memory)
        return GatewayStatus(
            id=self.config.id,
            name=self.config.name,
            pid=os.getpid(),
            url=self._ports.url,
            profile=self.config.profile,
            uptime_s=time.monotonic() - self._began_s,
            owner_pid=self.config.owner_pid,
            models=models,
            placement=self.registry.placement(),
            memory={"available_bytes": memory.available_bytes, "total_bytes": memory.total_bytes},
        )

    # -- start -------------------------------------------------------------------------------------------------------

    def _serve(self) -> list[HttpServer]:
        ports = self._ports
        servers = [
            self._server(
                ports.inference, inference=True, management=ports.management is None, metrics=ports.metrics is None
            )
        ]
        if ports.management is not None:
            servers.append(self._server(ports.management, inference=False, management=True, metrics=False))
        if ports.metrics is not None:
            servers.append(self._server(ports.metrics, inference=False, management=False, metrics=True))
        return servers

    def _server(self, sock: object, *, inference: bool, management: bool, metrics: bool) -> HttpServer:
        config = self.config
        metrics_alone = metrics and not inference and not management
        site = Site(
            access=self._access,
            limits=Limits(config.body_limit_bytes, config.header_limit_bytes, config.slow_request_timeout_s),
            inference=self._inference if inference else None,
            # the clouds that run the container put their own door before it, and send no token
            inference_open=config.profile == "container",
            app=make_app(self._services, inference=inference, management=management, metrics=metrics),
            open_paths=frozenset({"/ping", "/metrics"} if metrics_alone else {"/ping"}),
            count_refused=self._metrics.count_refused,
            is_stopping=self._stop_asked.is_set,
            development=config.development,
        )
        return HttpServer(site, [sock], config.http_connection)  # type: ignore[list-item]

    def _is_ready(self) -> bool:
        """A container is started for its model: until that serves, whoever balances load must send nothing."""
        return self.config.profile != "container" or bool(self.registry.routes)

    def _publish(self, cpus: tuple[int, ...] = ()) -> Path:
        pid = os.getpid()
        record = discovery.GatewayRecord(
            id=self.config.id,
            name=self.config.name,
            pid=pid,
            start_time=discovery.process_start_time(pid) or 0.0,
            boot_id=discovery.boot_id(),
            host=discovery.host_name(),
            url=self._ports.url,
            management_url=self._ports.management_url,
            token=self.config.token or self.config.owner_token,
            kernel_id=self.config.kernel_id,
            profile=self.config.profile,
            version=nbserve.__version__,
            cpus=cpus,
        )
        return discovery.publish(record)

    def _tell_cpus(self, cpus: tuple[int, ...]) -> None:
        if not self._stop_asked.is_set():  # its record is about to go, or has gone
            self._publish(cpus)

    def _cpus_of_others(self) -> list[int]:
        return [cpu for one in discovery.records() if one.id != self.config.id for cpu in one.cpus]

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.ask_to_stop)
        if self.config.profile == "notebook":
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the notebook's
        else:
            loop.add_signal_handler(signal.SIGINT, self.ask_to_stop)

    # -- stop --------------------------------------------------------------------------------------------------------

    def _owner_gone(self) -> None:
        log.info("the notebook kernel %s has ended", self.config.owner_pid)
        self.ask_to_stop(grace_s=0.0)

    async def _stop(self) -> None:
        """Accept nothing, drain, end the workers, close what is open, remove the folder."""
        for server in self._servers:
            server.stop()
        try:
            await self.registry.stop(self._grace_s)
        except Exception:
            log.exception("stopping the models failed")
        await self._zygotes.close()
        self._bus.close("the gateway has ended")
        await asyncio.sleep(LAST_REPLIES_S if self._grace_s else 0)
        for server in self._servers:
            await server.close()
        self._kill_leftovers()
        self._folder.remove()

    def _kill_leftovers(self) -> None:
        """What should have ended by now; nothing may stay behind."""
        for child in psutil.Process().children(recursive=True):
            log.warning("process %d is left over: killed", child.pid)
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
