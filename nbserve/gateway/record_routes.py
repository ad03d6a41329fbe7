"""The management API's route for recorded requests (gateway/recorder). For gateway/management."""

from __future__ import annotations

import msgspec

from nbserve.errors import BadRequest
from nbserve.gateway.inference import check_name
from nbserve.gateway.recorder import pieces
from nbserve.gateway.web import NDJSON, ManagementHandler
from nbserve.wire.recording import RecordRequest

__all__ = ["ROUTES"]


class RecordHandler(ManagementHandler):
    """POST, GET and DELETE /models/M/record: begin to record its requests, how far it is, end it and take the file."""

    def post(self, name: str) -> None:
        """RecordingStatus; asked for by a RecordRequest as JSON."""
        self.registry.find(check_name(name))
        try:
            asked = msgspec.json.decode(self.request.body or b"{}", type=RecordRequest)
        except (msgspec.MsgspecError, RecursionError) as exc:
            raise BadRequest(f"this is no request to record: {exc}") from exc
        self.reply(self.services.recorder.start(name, asked))

    def get(self, name: str) -> None:
        """RecordingStatus."""
        self.reply(self.services.recorder.status(check_name(name)))

    async def delete(self, name: str) -> None:
        """The file (wire/recording.py). It is forgotten when all of it was taken."""
        recording = self.services.recorder.stop(check_name(name))
        self.set_header("Content-Type", NDJSON)
        self.set_header("Cache-Control", "no-store")
        async for piece in pieces(recording):
            self.write(piece)
            await self.flush()
        self.services.recorder.drop(recording)


ROUTES = [(r"/models/([^/]+)/record", RecordHandler)]
