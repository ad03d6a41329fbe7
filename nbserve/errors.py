"""The one tree of errors, and what each means to an HTTP client.

Raised everywhere; turned into answers by `gateway/` and into one readable block by `notebook/` and the CLI.

    NbserveError                      500
      UsageError                      400   wrong option, no candidate class, name taken
      CaptureError                    400   a live object cannot be shipped; names the chain and the mend
      BundleError                     400   a folder that is not a bundle, or whose digest is wrong
      ProofError                      409   the worker's answer to the sample differs from the notebook's
      LoadError                       500   a worker did not become ready (stage, traceback or signal)
      GatewayError                    500   the gateway cannot be started or reached; port taken
      ExportError                     500   a pickle or a secret would go into an image; pip or the engine failed
      MeasureError                    500   a measurement could not be made
      RequestError                          what an inference client sees
        BadRequest                    400
        Unauthorized                  401
        Forbidden                     403   another host's name, another site's page, a switched-off API
        NotFound                      404
        MethodNotAllowed              405
        RequestTimeout                408
        Conflict                      409   version taken, version still needed, loading aborted
        BodyTooLarge                  413
        TargetTooLong                 414
        HeadersTooLarge               431
        HandlerError                  500   the handler raised, miscounted, or returned what cannot be encoded
        Unavailable                   503   queue full, deadline cannot be met, no ready worker
        ResponseTimeout               504
        OutOfMemory                   507
      WireError                       500   broken frames between gateway and worker
        EndOfFile, ShortRead, GarbageFrame, OversizedFrame, UnsupportedVersion
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

__all__ = [
    "BadRequest",
    "BodyTooLarge",
    "BundleError",
    "CaptureError",
    "Conflict",
    "EndOfFile",
    "ErrorInfo",
    "ExportError",
    "Forbidden",
    "GarbageFrame",
    "GatewayError",
    "HandlerError",
    "HeadersTooLarge",
    "LoadError",
    "MeasureError",
    "MethodNotAllowed",
    "NbserveError",
    "NotFound",
    "OutOfMemory",
    "OversizedFrame",
    "ProofError",
    "RequestError",
    "RequestTimeout",
    "ResponseTimeout",
    "ShortRead",
    "TargetTooLong",
    "Unauthorized",
    "Unavailable",
    "UnsupportedVersion",
    "UsageError",
    "WireError",
]


class ErrorInfo(msgspec.Struct, omit_defaults=True):
    """An error as it travels: worker -> gateway -> notebook or HTTP client. Never pickled.

    type: class name (`ValueError`). message: `str(exc)`. status: HTTP status it asks for.
    where: the place in the user's code, "In[5], line 3" or "featurize.py, line 12"; empty where unknown.
    traceback: lines of text, only the user's frames, already mapped to notebook cells.
    stage: decode, preprocess, inference, postprocess, encode; or for loading: start, import, values,
    initialize, warmup, proof.
    """

    type: str
    message: str
    status: int = 500
    where: str = ""
    stage: str = ""
    traceback: list[str] = msgspec.field(default_factory=list)
    hint: str = ""
    details: dict[str, Any] = msgspec.field(default_factory=dict)


class NbserveError(Exception):
    """Base of all errors that nbserve raises on purpose.

    `hint` says what to do next. `info` carries a remote error (worker or gateway) where there is one.
    """

    status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "", info: ErrorInfo | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.info = info

    def to_info(self) -> ErrorInfo:
        """This error as data, for a frame or an HTTP body."""
        if self.info is not None:
            return self.info
        return ErrorInfo(type=type(self).__name__, message=self.message, status=self.status, hint=self.hint)

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: an expected failure is a message and a hint, not a stack of our internals."""
        lines = [f"{type(self).__name__}: {self.message}"]
        if self.info is not None and self.info.traceback:
            lines += ["", *self.info.traceback]
        hint = self.hint or (self.info.hint if self.info else "")
        if hint:
            lines += ["", f"What to do: {hint}"]
        return lines


class UsageError(NbserveError):
    """A wrong option or name: one line, no traceback."""

    status = 400


class CaptureError(NbserveError):
    """A live object cannot be shipped; the message names the chain and the cell, the hint the mend."""

    status = 400


class BundleError(NbserveError):
    """A folder that is not a bundle, is damaged, or was changed after it was written."""

    status = 400


class ProofError(NbserveError):
    """The worker's answer to the sample differs from the handler's in the notebook."""

    status = 409


class LoadError(NbserveError):
    """A worker did not become ready; says the stage and the traceback, timeout or signal."""


class GatewayError(NbserveError):
    """The gateway cannot be started or reached."""


class ExportError(NbserveError):
    """An image cannot be made: what would go into it is refused, or pip or the engine failed."""


class MeasureError(NbserveError):
    """A measurement could not be made: nothing answers, the load generator died."""


class RequestError(NbserveError):
    """An error that an inference client sees; `retry_after_s` becomes Retry-After."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        info: ErrorInfo | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, info=info)
        self.retry_after_s = retry_after_s


class BadRequest(RequestError):
    """The body is not what its content type says, a field is missing, a shape is wrong."""

    status = 400


class Unauthorized(RequestError):
    """Token missing or wrong; never says which."""

    status = 401


class Forbidden(RequestError):
    """Asked under another host's name, from another site's page, or of an API that is switched off."""

    status = 403


class NotFound(RequestError):
    """Unknown model, version or path."""

    status = 404


class MethodNotAllowed(RequestError):
    """The path exists, the method does not."""

    status = 405


class RequestTimeout(RequestError):
    """The client was too slow in sending."""

    status = 408


class Conflict(RequestError):
    """The version is taken or still needed, or its loading was aborted."""

    status = 409


class BodyTooLarge(RequestError):
    """The body is over the limit."""

    status = 413


class TargetTooLong(RequestError):
    """Path and query are over the limit."""

    status = 414


class HeadersTooLarge(RequestError):
    """The headers are over the limit."""

    status = 431


class HandlerError(RequestError):
    """The handler raised, returned the wrong number of answers, or one that cannot be encoded."""

    status = 500


class Unavailable(RequestError):
    """Queue full, deadline cannot be met, or no ready worker: answered at once."""

    status = 503


class ResponseTimeout(RequestError):
    """The handler took longer than `response_timeout_s` and was interrupted."""

    status = 504


class OutOfMemory(RequestError):
    """Host or device memory ran out."""

    status = 507


class WireError(NbserveError):
    """Broken bytes between gateway and worker."""


class EndOfFile(WireError):
    """The peer closed between two frames."""


class ShortRead(WireError):
    """The peer closed in the middle of a frame."""


class GarbageFrame(WireError):
    """Bytes that are no frame: wrong magic, unknown kind, lengths that do not add up."""


class OversizedFrame(WireError):
    """A frame announces more bytes or items than the limits allow."""


class UnsupportedVersion(WireError):
    """The peer speaks another protocol version."""
