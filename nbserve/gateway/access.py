"""Who may ask: host names, origins and the token. Decides only; called by gateway/http for every request.

- Host: loopback names, the configured host and `allow_hosts`; another name means a rebound DNS entry.
- Origin: a browser says which page sends a request; a page of another site is refused, and there is no CORS.
- Token: `Authorization: Bearer T` or `token T`, compared in constant time.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from nbserve.errors import BadRequest, Forbidden, NbserveError

__all__ = ["Access", "Visitor"]

_REMEMBERED_HOSTS = 256


class Visitor(NamedTuple):
    """Who asks, by the headers of a request: refused whatever is asked for, or let in, with or without the token."""

    refusal: NbserveError | None
    has_token: bool


class Access:
    """The rules of one gateway. `token` empty: every token is right, but management is the owner's alone."""

    def __init__(self, *, host: str, allow_hosts: Iterable[str] = (), token: str = "", owner_token: str = "") -> None:
        self._names = {"localhost", host.lower(), *(name.lower() for name in allow_hosts)}
        self._any_host = "*" in self._names
        self._token = token.encode()
        self._owner_token = owner_token.encode()
        self._known: dict[str, bool] = {}

    def judge(self, host: str, origin: str | None, authorization: str) -> Visitor:
        """The verdict on a request's Host, Origin (None = not sent) and Authorization headers."""
        return Visitor(self._refusal(host, origin), self.accepts(authorization))

    def knows_host(self, host: str) -> bool:
        """Whether a Host header names this gateway. The answer is remembered: the same few come again and again."""
        known = self._known.get(host)
        if known is None:
            known = self._any_host or self._is_ours(host)
            if len(self._known) < _REMEMBERED_HOSTS:
                self._known[host] = known
        return known

    def is_same_site(self, origin: str, host: str) -> bool:
        """Whether a page at `origin` was served under `host`, so that its requests are the user's own."""
        return origin.partition("://")[2].lower() == host.lower()

    def accepts(self, authorization: str) -> bool:
        """Whether an Authorization header holds the token."""
        return not self._token or _holds(authorization, self._token)

    def may_manage(self, authorization: str) -> bool:
        """Whether management is on for a request that passed `accepts`."""
        return bool(self._token) or (bool(self._owner_token) and _holds(authorization, self._owner_token))

    def _refusal(self, host: str, origin: str | None) -> NbserveError | None:
        if not host or "," in host:
            return BadRequest("there must be one Host header")
        if not self.knows_host(host):
            return Forbidden(
                "this gateway does not go by the name in the Host header", hint="ask for it as 127.0.0.1 or localhost"
            )
        if origin is not None and not self.is_same_site(origin, host):
            return Forbidden("pages of other sites may not use this gateway")
        return None

    def _is_ours(self, host: str) -> bool:
        name = _host_name(host)
        if name in self._names:
            return True
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return False


def _holds(authorization: str, token: bytes) -> bool:
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() not in ("bearer", "token"):
        given = ""
    # headers come as Latin-1 text: back to the bytes that were sent
    return hmac.compare_digest(given.strip().encode("latin-1", "replace"), token)


def _host_name(host: str) -> str:
    """Host header -> name without port and brackets, lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()
