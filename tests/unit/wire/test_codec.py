"""Bodies and values: every content type, every way in which a body can lie."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbserve.errors import BadRequest, HandlerError
from nbserve.handler import MissingField, Row
from nbserve.wire.codec import decode_body, decode_row, encode_value, shape_of

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_json_goes_there_and_back(value: object) -> None:
    body, content_type = encode_value(value)
    assert content_type == "application/json"
    assert json.loads(body) == value
    assert decode_body(content_type, body) == value


@given(st.binary())
def test_any_bytes_as_json_decode_or_are_a_bad_request(body: bytes) -> None:
    try:
        said = decode_row("application/json; charset=utf-8", body)
    except BadRequest as exc:
        said = exc
    assert isinstance(said, Row) or "JSON" in str(said)


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
def test_deep_json_is_a_bad_request(depth: int) -> None:
    with pytest.raises(BadRequest):
        decode_row("application/json", b"[" * depth + b"]" * depth)


def test_arrays_and_tensors_become_numbers() -> None:
    value = {"t": torch.ones(2, 2, requires_grad=True), "a": np.arange(3), "s": np.float32(0.5), "n": float("nan")}
    body, _ = encode_value(value)
    assert json.loads(body) == {"t": [[1.0, 1.0], [1.0, 1.0]], "a": [0, 1, 2], "s": 0.5, "n": None}


def test_bytes_stay_bytes() -> None:
    assert encode_value(b"\x00\xff") == (b"\x00\xff", "application/octet-stream")
    assert decode_row("image/png", b"\x89PNG")["body"] == b"\x89PNG"
    assert decode_row("", b"{}").payload == b"{}"


def test_what_has_no_json_form_is_named() -> None:
    with pytest.raises(HandlerError, match="object has no JSON form"):
        encode_value({"x": object()})


def test_text_with_and_without_charset() -> None:
    assert decode_row("text/plain", "grüß".encode()).payload == "grüß"
    assert decode_row('text/plain; charset="latin-1"', "grüß".encode("latin-1")).payload == "grüß"
    with pytest.raises(BadRequest, match="not utf-8"):
        decode_row("text/plain", b"\xff\xfe\xff")
    with pytest.raises(BadRequest, match="nonsense"):
        decode_row("text/plain; charset=nonsense", b"a")


def test_multipart_file_parts_decode_by_their_own_type() -> None:
    body = (
        b'--B\r\nContent-Disposition: form-data; name="data"; filename="a.json"\r\n'
        b"Content-Type: application/json\r\n\r\n[1, 2]\r\n"
        b'--B\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n--B--\r\n'
    )
    row = decode_row("multipart/form-data; boundary=B", body)
    assert row.payload == [1, 2]
    assert row["note"] == b"hello"


def test_broken_multipart_is_a_bad_request() -> None:
    for content_type in ("multipart/form-data; boundary=B", "multipart/form-data"):
        with pytest.raises(BadRequest, match="form"):
            decode_row(content_type, b"--B\r\nnonsense")


def test_curl_without_a_content_type_is_told_what_to_do() -> None:
    with pytest.raises(BadRequest) as caught:
        decode_row("application/x-www-form-urlencoded", b'{"x": 1}')
    assert "Content-Type: application/json" in caught.value.hint


def test_urlencoded_last_value_wins() -> None:
    assert decode_row("application/x-www-form-urlencoded", b"a=1&a=2") == {"a": b"2"}


def test_row_payload_and_keys() -> None:
    assert Row(body={"data": [1]}).payload == [1]
    assert Row(body={"text": "a"})["text"] == "a"
    assert Row(data=b"x", body=1).payload == b"x"
    with pytest.raises(MissingField, match="field 'text' is missing"):
        Row(body=[1])["text"]
    with pytest.raises(KeyError):
        Row(body={})["text"]


@given(st.lists(st.integers(1, 4), max_size=3))
def test_shape_of_agrees_with_numpy(shape: list[int]) -> None:
    assert shape_of(np.zeros(shape).tolist()) == tuple(shape)


def test_shape_of_ragged_or_other_things() -> None:
    assert shape_of([[1], [1, 2]]) is None
    assert shape_of(["a"]) is None
    assert shape_of({"a": 1}) is None
