"""The verb `record`, beside the gateway: begins a recording, waits for its end, writes its file. Called by verbs.py."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nbserve.errors import UsageError
from nbserve.resolve import Served
from nbserve.wire.recording import RecordingStatus, RecordRequest, read_recording

__all__ = ["record_requests", "take_requests"]

_LOOK_EVERY_S = 0.5


def record_requests(
    served: Served, asked: RecordRequest, file: Path | None, say: Callable[[str], None]
) -> RecordingStatus:
    """Record until it ends by itself or Ctrl-C comes, then write the file. `file` None: only begin.

    Raises Conflict where the endpoint is being recorded already, UsageError where the file cannot be written: before
    anything is recorded.
    """
    if file is None:
        return served.client.start_recording(served.name, asked)
    _check_folder(file)
    status = served.client.start_recording(served.name, asked)
    say(f"recording {served.name} for {asked.seconds:g} s; Ctrl-C ends it before, and writes {file}")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            while status.running:
                time.sleep(max(0.0, min(_LOOK_EVERY_S, asked.seconds - status.seconds)))
                status = served.client.recording(served.name)
    finally:
        status = take_requests(served, file)
    return status


def take_requests(served: Served, file: Path) -> RecordingStatus:
    """End a recording and write what it has, in a file that only its owner can read. Raises NotFound, UsageError.

    The file is complete or not there; where it cannot be written, the gateway keeps the recording for another try.
    """
    _check_folder(file)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as writing:
            for part in served.client.take_recording(served.name):
                writing.write(part)
        status = _status_of(Path(temporary), file)
        os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return status


def _status_of(written: Path, file: Path) -> RecordingStatus:
    """What is in the file, looked at line by line: that it came whole, too."""
    with written.open("rb") as lines:
        header, requests = read_recording(lines, str(file))
        body_bytes = withheld = 0
        for request in requests:
            content = request.content
            withheld += content is None
            body_bytes += len(content or b"")
    return RecordingStatus(
        name=header.model,
        running=False,
        seen=header.seen,
        kept=header.kept,
        body_bytes=body_bytes,
        seconds=header.seconds,
        ended=header.ended,
        withheld=withheld,
        file=str(file),
    )


def _check_folder(file: Path) -> None:
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise UsageError(f"--out {file} cannot be written", hint="name a file in a folder of yours")
