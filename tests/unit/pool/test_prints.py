"""Prints out of iopub messages, as jupyter_client's own Session writes them."""

from __future__ import annotations

from typing import Any

import pytest
from jupyter_client.session import Session

from nbserve.gateway.pool.prints import Printed, printed


def message(kind: str, content: dict[str, Any], parent: dict[str, Any] | None = None) -> list[bytes]:
    session = Session(key=b"secret")
    return session.serialize(session.msg(kind, content, parent=parent), ident=[b"stream.stdout"])


def test_a_print_with_its_marks() -> None:
    session = Session()
    header = session.msg_header("batch") | {"nbserve_batch": 7, "nbserve_requests": "a,b"}
    parts = message("stream", {"name": "stderr", "text": "Grüße\n"}, {"header": header})
    assert printed(parts) == Printed("Grüße\n", "stderr", 7, ["a", "b"])


def test_a_print_from_a_console() -> None:
    parent = Session().msg("execute_request")
    assert printed(message("stream", {"name": "stdout", "text": "x"}, parent)) == Printed("x", "stdout", None, [])
    assert printed(message("stream", {"name": "stdout", "text": "x"})) == Printed("x", "stdout", None, [])


def test_a_file_name_that_is_not_utf_8() -> None:
    shown = printed(message("stream", {"name": "stdout", "text": "caf\udce9\n"}))
    assert shown == Printed("caf\ufffd\n", "stdout", None, [])


@pytest.mark.parametrize(
    "parts",
    [
        message("status", {"execution_state": "busy"}),
        message("stream", {"name": "stdout", "text": 5}),
        [b"1"],
        [b"<IDS|MSG>", b""],
        [b"<IDS|MSG>", b"", b"[]", b"{}", b"{}", b"{}"],
        [b"<IDS|MSG>", b"", b'{"msg_type": "stream"}', b"{}", b"{}", b'{"text": '],
        [],
    ],
)
def test_what_is_no_print(parts: list[bytes]) -> None:
    assert printed(parts) is None
