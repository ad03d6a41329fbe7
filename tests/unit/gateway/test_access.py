"""Who may ask, replies outside development, and names: the small pure parts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.errors import BadRequest, ErrorInfo
from nbserve.gateway.access import Access
from nbserve.gateway.inference import check_name, request_id_of, safe_content_type
from nbserve.gateway.registry import bundle_path
from nbserve.gateway.replies import error_body

ACCESS = Access(host="10.1.2.3", allow_hosts=["gpu.lab"], token="s3cret")


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("10.1.2.3", True),
        ("10.1.2.3:80", True),
        ("gpu.lab:8080", True),
        ("GPU.LAB", True),
        ("localhost", True),
        ("127.0.0.1:5", True),
        ("127.255.0.1", True),
        ("[::1]", True),
        ("[::1]:80", True),
        ("gpu.lab.evil.example", False),
        ("10.1.2.4", False),
        ("[fe80::1]", False),
        ("", False),
        ("127.0.0.1:x", False),
        ("127.1", False),
        ("2130706433", False),
    ],
)
def test_hosts(host: str, ours: bool) -> None:
    assert ACCESS.knows_host(host) is ours
    assert ACCESS.knows_host(host) is ours, "the same when it is asked again"


def test_any_host_where_the_container_says_so() -> None:
    assert Access(host="0.0.0.0", allow_hosts=["*"]).knows_host("whatever.example")


@given(st.text(max_size=50))
def test_only_the_token_is_the_token(text: str) -> None:
    assert ACCESS.accepts(f"Bearer {text}") == (text.strip() == "s3cret")
    assert not ACCESS.accepts(text)
    assert Access(host="", token="").accepts(text)


def test_what_a_client_sees_outside_development(caplog: pytest.LogCaptureFixture) -> None:
    info = ErrorInfo(
        type="KeyError", message="/home/me/x", where="In[5], line 3", traceback=["secret"], details={"a": 1}
    )
    shown = error_body(info, development=False, who="digits version 1")
    assert shown.error_id
    assert (shown.type, shown.where, shown.traceback, shown.details) == ("HandlerError", "", [], {})
    assert "/home" not in shown.message
    assert shown.error_id in caplog.text
    assert "/home/me/x" in caplog.text
    assert "digits version 1" in caplog.text
    assert error_body(info, development=True).traceback == ["secret"]


def test_a_clients_own_fault_is_named_without_an_id() -> None:
    info = ErrorInfo(type="BadRequest", message="field 'x' is missing", status=400, traceback=["secret"])
    shown = error_body(info, development=False)
    assert (shown.code, shown.message, shown.error_id, shown.traceback) == (400, "field 'x' is missing", "", [])


@given(st.text(max_size=200))
def test_content_types_and_ids_are_safe_headers(text: str) -> None:
    for value in (safe_content_type(text), request_id_of(text)):
        assert value
        assert value.isascii()
        assert value.isprintable()
        assert len(value) <= 256


@given(st.text(max_size=140))
def test_names(text: str) -> None:
    try:
        assert check_name(text) == text
    except BadRequest:
        return
    assert 1 <= len(text) <= 128
    assert not text.startswith(".")
    assert text.isascii()
    assert not set(text) & set("/\\% \n\0:;\"'$")


def test_a_bundles_path_is_canonical(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    assert bundle_path(f"{tmp_path}/x/../b") == (tmp_path / "b").resolve()
    assert bundle_path(f"{tmp_path}/link") == (tmp_path / "b").resolve()
