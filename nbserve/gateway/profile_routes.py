"""The management API's routes for profiles; bodies are those of wire/profile. Called by gateway/management."""

from __future__ import annotations

import asyncio

import msgspec

from nbserve.errors import BadRequest
from nbserve.gateway.inference import check_name
from nbserve.gateway.profiles import Profiles
from nbserve.gateway.web import ManagementHandler
from nbserve.wire.profile import ProfileRequest

__all__ = ["ROUTES"]

_PIECE_BYTES = 1024 * 1024


class _Handler(ManagementHandler):
    @property
    def profiles(self) -> Profiles:
        """The gateway's."""
        return self.services.profiles


class ProfileHandler(_Handler):
    """POST, GET and DELETE /models/M/profile: begin one, how far it is, end it. `version=V`: of another version."""

    def post(self, name: str) -> None:
        """ProfileStatus; asked for by a ProfileRequest as JSON."""
        try:
            asked = msgspec.json.decode(self.request.body or b"{}", type=ProfileRequest)
        except (msgspec.MsgspecError, RecursionError) as exc:
            raise BadRequest(f"this is no request for a profile: {exc}") from exc
        self.reply(self.profiles.start(check_name(name), asked, self.get_query_argument("version", "")), 202)

    def get(self, name: str) -> None:
        """ProfileStatus of the one that goes on, else of the last."""
        self.reply(self.profiles.status(check_name(name)))

    def delete(self, name: str) -> None:
        """ProfileStatus; the worker then packs what it has, which `get` shows."""
        self.reply(self.profiles.stop(check_name(name)), 202)


class ProfilesHandler(_Handler):
    """GET /models/M/profiles: those that are kept, newest first."""

    def get(self, name: str) -> None:
        """An array of ProfileStatus."""
        self.reply(self.profiles.kept(check_name(name)))


class ProfileRecordHandler(_Handler):
    """GET /models/M/profiles/ID: a ProfileRecord; ID "last" is the newest."""

    def get(self, name: str, id_: str) -> None:
        """Without the trace."""
        self.reply(self.profiles.record(check_name(name), id_))


class ProfileTraceHandler(_Handler):
    """GET /models/M/profiles/ID/trace: torch's trace, JSON packed by gzip."""

    async def get(self, name: str, id_: str) -> None:
        """The file as it is."""
        file = self.profiles.trace(check_name(name), id_)
        self.set_header("Content-Type", "application/gzip")
        self.set_header("Cache-Control", "no-store")
        with file.open("rb") as packed:
            while piece := await asyncio.to_thread(packed.read, _PIECE_BYTES):
                self.write(piece)
                await self.flush()


ROUTES = [
    (r"/models/([^/]+)/profile", ProfileHandler),
    (r"/models/([^/]+)/profiles", ProfilesHandler),
    (r"/models/([^/]+)/profiles/([^/]+)", ProfileRecordHandler),
    (r"/models/([^/]+)/profiles/([^/]+)/trace", ProfileTraceHandler),
]
"""To stand before the route of a model's versions, which would take them for versions."""
