"""The ring of failed requests: bounded whatever comes, the last ones stay, redacted fields are never handed out."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo, NotFound
from nbserve.gateway.failures import MAX_BYTES, MAX_TEXT_CHARS, OVERHEAD_BYTES, FailureStore, Kept, Ring, detail
from nbserve.gateway.request import Request
from nbserve.wire.failure import Failure
from nbserve.wire.messages import RequestItem

ERROR = ErrorInfo(type="ValueError", message="no", stage="inference", where="In[3], line 2")


def request(body: bytes = b"{}", request_id: str = "r") -> Request:
    return Request(RequestItem("application/json", request_id), body, 0.0)


def kept(number: int, body: bytes = b"", message: str = "") -> Kept:
    error = ErrorInfo(type="E", message=message)
    failure = Failure(
        id=f"m-{number}", model="m", version="1", at=0.0, request_id=f"r{number}", status=500, error=error
    )
    return Kept(failure, RequestItem("", f"r{number}"), body, frozenset())


def store(**config: Any) -> tuple[FailureStore, Any]:
    made = FailureStore(clock=lambda: 1_700_000_000.0)
    return made, made.of("m", "1", "/bundle", ModelConfig(**config))


def take(failures: Any, *batch: Request, error: ErrorInfo = ERROR, lost: bool = False) -> None:
    """All of a batch fail."""
    for one in batch:
        failures.take(one, batch, 17, 0, error, lost=lost)


@given(
    arrivals=st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 3_000)), max_size=60),
    count=st.integers(1, 10),
    max_bytes=st.integers(1, 100_000),
)
def test_the_bounds_hold_and_the_last_ones_stay(arrivals: list[tuple[int, int]], count: int, max_bytes: int) -> None:
    ring = Ring(max_bytes)
    for number, (body, message) in enumerate(arrivals):
        ring.add(kept(number, b"x" * body, "x" * message), count)
        assert ring.size_bytes == sum(one.size_bytes for one in ring.kept) <= max_bytes
        assert len(ring.kept) <= count
        ids = [one.failure.id for one in ring.kept]
        assert ids == [f"m-{each}" for each in range(number + 1 - len(ids), number + 1)], "the last ones, none left out"
        if max_bytes >= OVERHEAD_BYTES + 4 * (message + 2):
            assert ids, "whatever its body: at least its error is there"
    if arrivals and max_bytes >= 60 * (OVERHEAD_BYTES + 4 * 3_000 + 30_000):
        assert len(ring.kept) == min(count, len(arrivals))


def test_a_body_larger_than_the_ring_is_left_out_and_said_so() -> None:
    ring = Ring(max_bytes=10_000)
    ring.add(kept(1, b"x" * 20_000), 5)
    [one] = ring.kept
    handed = detail(one, []).request
    assert handed.body is None
    assert "too many to keep" in handed.withheld


def test_an_endless_message_is_cut() -> None:
    made, failures = store()
    long = ErrorInfo(type="E", message="x" * 10**6, traceback=["y" * 10**6] * 500, details={"cause": "z" * 10**6})
    take(failures, request(), error=long)
    [one] = made.ring("m").kept
    assert len(one.failure.error.message) == MAX_TEXT_CHARS
    assert len(one.failure.error.details["cause"]) == MAX_TEXT_CHARS
    assert one.size_bytes <= MAX_BYTES


def test_what_is_kept_says_where_and_with_whom() -> None:
    made, failures = store()
    batch = [request(b"[1]", "a"), request(b"[2]", "b")]
    failures.take(batch[1], batch, 17, 3, ERROR, lost=False)
    [one] = made.ring("m").kept
    failure = one.failure
    assert (failure.id, failure.model, failure.version, failure.at) == ("m-1", "m", "1", 1_700_000_000.0)
    assert (failure.row, failure.batch, failure.batch_id, failure.worker) == (1, ["a", "b"], 17, 3)
    assert (failure.status, failure.error, failure.body_bytes, failure.bundle) == (500, ERROR, 3, "/bundle")
    assert detail(one, []).request.body == b"[2]"


@pytest.mark.parametrize(
    ("config", "stage", "lost", "size", "alone"),
    [
        ({}, "inference", False, 2, True),  # isolated: it was tried alone
        ({"isolate": "off"}, "inference", False, 2, False),
        ({"isolate": "off"}, "inference", False, 1, True),
        ({"isolate": "off"}, "decode", False, 2, True),  # row by row
        ({}, "", True, 2, False),  # with its worker, and not tried again
        ({}, "", True, 1, True),
    ],
)
def test_whether_it_fails_alone_is_known(
    config: dict[str, Any], stage: str, lost: bool, size: int, alone: bool
) -> None:
    made, failures = store(**config)
    error = msgspec.structs.replace(ERROR, stage=stage)
    take(failures, *(request(request_id=str(place)) for place in range(size)), error=error, lost=lost)
    assert [one.failure.alone for one in made.ring("m").kept] == [alone] * size


def test_a_batch_is_handed_out_where_all_of_it_is_kept() -> None:
    made, failures = store(isolate="off", failures=3)
    take(failures, request(b"[1]", "a"), request(b"[2]", "b"))
    ring = made.ring("m")
    one = ring.find("b")
    assert [each.body for each in detail(one, ring.batch_of(one)).batch] == [b"[1]", b"[2]"]
    failures.take(request(request_id="c"), [], 18, 0, ERROR, lost=False)
    assert len(ring.batch_of(one)) == 2
    failures.take(request(request_id="d"), [], 19, 0, ERROR, lost=False)
    assert ring.batch_of(one) == [], "its neighbour has dropped out"


def test_found_by_id_by_request_and_the_last() -> None:
    made, failures = store()
    for name in ("a", "b", "a"):
        take(failures, request(request_id=name))
    ring = made.ring("m")
    assert ring.find("m-1").failure.id == "m-1"
    assert ring.find("a").failure.id == "m-3", "the last with this id"
    assert ring.find("last").failure.id == "m-3"
    with pytest.raises(NotFound, match="no failure 'm-9' is kept"):
        ring.find("m-9")


def test_refusals_are_no_failures_and_off_is_off() -> None:
    made, failures = store()
    take(failures, request(), error=ErrorInfo(type="Unavailable", message="full", status=503))
    assert not made.ring("m").kept
    assert made.of("m", "1", "/bundle", ModelConfig(failures=0)) is None


def test_versions_share_a_ring_that_ends_with_the_model() -> None:
    made, failures = store()
    take(failures, request())
    newer = made.of("m", "2", "/newer", ModelConfig(failures=2))
    assert newer is not None
    take(newer, request(), request())
    assert [one.failure.version for one in made.ring("m").kept] == ["2", "2"], "as many as the newer one wants"
    assert made.forget("m") == 2
    assert not made.ring("m").kept
    assert made.forget("m") == 0


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5
)


@given(secret=st.text(alphabet="XYZ", min_size=6), around=values, depth=st.integers(0, 4))
def test_nothing_of_a_redacted_field_is_handed_out(secret: str, around: Any, depth: int) -> None:
    body: Any = {"Password": secret, "a": 1}
    for _ in range(depth):
        body = {"in": [body, {"password": [secret]}]}
    made, failures = store(redact=["password"])
    take(failures, request(json.dumps({"x": body}).encode()))
    ring = made.ring("m")
    handed = msgspec.json.encode(detail(ring.find("last"), ring.batch_of(ring.find("last"))))
    raw = msgspec.json.decode(handed)["request"]["body"]
    assert secret.encode() not in base64.b64decode(raw)
    assert b'"a":1' in base64.b64decode(raw)


def test_what_cannot_be_redacted_is_withheld() -> None:
    made, failures = store(redact=["password"])
    take(failures, request(b"password=secret"))
    handed = detail(made.ring("m").find("last"), []).request
    assert handed.body is None
    assert "no JSON" in handed.withheld
