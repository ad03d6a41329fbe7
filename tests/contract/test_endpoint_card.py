"""An `Endpoint` that is shown again says how it is now, also where its gateway has died; at a real gateway."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from nbserve.config import GatewayConfig
from nbserve.endpoint import Endpoint
from nbserve.launch import GatewayProcess
from nbserve.resolve import Served
from tests.unit.gateway.running import Running, make_bundle, running, until

pytestmark = pytest.mark.xdist_group("contract-card")


def served(gateway: Running, folder: Path) -> Endpoint:
    gateway.client.register(str(make_bundle(folder)))
    found = Served(gateway.client, "obedient")
    return Endpoint(found, found.model(), gateway.client.status())


def test_a_gateway_that_was_killed_is_seen_by_who_shows_the_endpoint_again(tmp_path: Path) -> None:
    config = GatewayConfig(id=secrets.token_hex(6), token=secrets.token_hex(12), owner_pid=os.getpid())
    gateway = Running(GatewayProcess(config))
    try:
        endpoint = served(gateway, tmp_path)
        assert "obedient version 1: ready" in repr(endpoint)
    finally:
        gateway.process.kill()
    text = until(lambda: "ready" not in repr(endpoint) and repr(endpoint), "the card is that of now")
    page = endpoint._repr_html_()
    for shown in (text, page):
        assert "obedient version 1: its gateway does not answer" in shown
        assert "What to do: `nbserve list` shows the gateways that run; in a notebook, run the serving cell" in shown
        assert "curl" not in shown, "no recipe that cannot work"
        assert gateway.token not in shown
    gateway.client.close()


def test_it_follows_the_endpoint_until_it_is_served_no_more(tmp_path: Path) -> None:
    with running() as gateway:
        endpoint = served(gateway, tmp_path)
        assert repr(endpoint).count("worker #") == 1
        gateway.client.scale("obedient", 2)
        until(lambda: repr(endpoint).count("worker #") == 2, "both workers are on the card")
        assert endpoint.workers == 2
        endpoint.stop()
        text = until(lambda: "ready" not in repr(endpoint) and repr(endpoint), "the card is that of now")
        assert "obedient version 1: not served any more" in text
        assert "What to do: " in text
