"""`python -m nbserve.export.ask NAME CONTENT_TYPE`: ask the gateway in this container, body on standard input.

Run by the proof inside a container, so that no port need be published. Prints one line of JSON: {"content_type",
"body" (base64)}, or {"error": ErrorInfo} where the endpoint answers with an error or is not ready.
"""

from __future__ import annotations

import os
import sys

import msgspec

from nbserve.client import Client
from nbserve.errors import ErrorInfo, NbserveError

__all__ = ["Reply", "main"]


class Reply(msgspec.Struct, omit_defaults=True):
    """The one line."""

    content_type: str = ""
    body: bytes = b""
    error: ErrorInfo | None = None


def main(name: str, content_type: str) -> Reply:
    """Ask once. The body may be empty: then only whether the endpoint is ready."""
    with Client(f"http://127.0.0.1:{os.environ.get('NBSERVE_PORT', '8080')}", "") as client:
        try:
            client.ping()
            body = sys.stdin.buffer.read()
            return Reply(*client.predict(name, body, content_type)) if content_type else Reply()
        except NbserveError as exc:
            return Reply(error=exc.to_info())


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(main(*sys.argv[1:3])) + b"\n")
