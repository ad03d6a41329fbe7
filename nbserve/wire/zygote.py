"""Messages between the gateway and a zygote: one JSON object a packet of a unix socket, file descriptors beside it.

The gateway says Preload once, then Fork as often as it likes; the zygote answers Preloaded, and Forked to each Fork,
or Refused, and says Exited when one of its children has ended. Nothing is unpickled. Spoken by gateway/pool/zygote.py
and worker/zygote.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nbserve.errors import WireError

__all__ = ["Exited", "Fork", "Forked", "Message", "Preload", "Preloaded", "Refused", "changes", "decode", "encode"]


class Preload(msgspec.Struct, tag=True):
    """What to import before the first fork: `names` as "module" or "module:name", of these distributions only."""

    names: list[str]
    requirements: list[str]


class Preloaded(msgspec.Struct, tag=True):
    """The zygote can fork. skipped: name -> why it was not imported."""

    names: list[str]
    skipped: dict[str, str]
    seconds: float


class Fork(msgspec.Struct, tag=True):
    """Fork a worker. Comes with four descriptors: log, data stream, status page, pidfd of the gateway.

    env: what differs from the environment that the zygote was started with; None = not there.
    """

    id: int
    args: list[str]
    env: dict[str, str | None]
    cwd: str


class Forked(msgspec.Struct, tag=True):
    """The worker runs. Comes with its pidfd."""

    id: int
    pid: int


class Exited(msgspec.Struct, tag=True):
    """A worker has ended; code as Popen has it, negative = by this signal."""

    pid: int
    code: int


class Refused(msgspec.Struct, tag=True):
    """No fork, and why. id 0: none will ever be made, the zygote ends; `name` is the import at fault, if it is one."""

    id: int
    reason: str
    name: str = ""


Message = Preload | Preloaded | Fork | Forked | Exited | Refused
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str | None]:
    """What to set, and with None to remove, in one environment so that it becomes the other."""
    new: dict[str, str | None] = {name: value for name, value in after.items() if before.get(name) != value}
    return new | dict.fromkeys(before.keys() - after.keys())


def encode(message: Message) -> bytes:
    """One packet."""
    return msgspec.json.encode(message)


def decode(packet: bytes) -> Message:
    """Raises WireError."""
    try:
        return _decoder.decode(packet)
    except msgspec.MsgspecError as exc:
        raise WireError(f"a message between gateway and zygote cannot be read: {exc}") from exc
