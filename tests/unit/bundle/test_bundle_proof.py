"""The comparison of two answers, and sample.json."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.bundle import Sample, compare
from nbserve.bundle.proof import dump_sample, parse_sample
from nbserve.errors import BundleError

JSON = "application/json"


def sample_of(expected: object, **more: object) -> Sample:
    body = json.dumps(expected).encode()
    return Sample(content_type=JSON, body=b"[1]", expected_content_type=JSON, expected_body=body, **more)  # type: ignore[arg-type]


def answer(value: object) -> bytes:
    return json.dumps(value).encode()


plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(plain_json)
def test_an_answer_equals_itself(value: object) -> None:
    found = compare(sample_of(value), JSON, answer(value))
    assert found.equal
    assert found.max_difference == 0.0


@given(st.floats(-1e6, 1e6), st.floats(-1, 1))
def test_floats_within_the_tolerance_are_equal(value: float, part: float) -> None:
    sample = sample_of({"p": value})
    near = value + part * 0.99 * (sample.atol + sample.rtol * abs(value))
    found = compare(sample, JSON, answer({"p": near}))
    assert found.equal
    assert found.max_difference == pytest.approx(abs(near - value))
    far = value + 2.1 * (sample.atol + sample.rtol * abs(value))
    assert not compare(sample, JSON, answer({"p": far})).equal


@pytest.mark.parametrize(
    ("expected", "given_", "path"),
    [
        ({"digit": 3, "p": 0.9}, {"digit": 4, "p": 0.9}, "$.digit"),
        ([[0.5, 0.5]], [[0.5, 0.6]], "$[0][1]"),
        ({"a": 1}, {"b": 1}, "$"),
        ([1, 2], [1, 2, 3], "$"),
        ({"a": None}, {"a": 0}, "$.a"),
        ({"a": True}, {"a": 1}, "$.a"),
        ({"a": "x"}, {"a": "y"}, "$.a"),
        (1000000, 1000001, "$"),
    ],
)
def test_differences_are_found_and_named(expected: object, given_: object, path: str) -> None:
    found = compare(sample_of(expected), JSON, answer(given_))
    assert not found.equal
    assert found.path == path
    assert json.dumps(expected) in found.text
    assert json.dumps(given_) in found.text


def test_max_difference_is_the_largest_of_all() -> None:
    found = compare(sample_of([0.0, 0.0, 0.0]), JSON, answer([0.5, 2.0, 0.1]))
    assert found.max_difference == 2.0
    assert found.path == "$[0]"


def test_an_int_and_a_float_compare_as_numbers() -> None:
    assert compare(sample_of([1.0]), JSON, b"[1]").equal


def test_other_content_types_are_exact() -> None:
    sample = Sample(content_type=JSON, body=b"1", expected_content_type="image/png", expected_body=b"\x89PNG")
    assert compare(sample, "image/png", b"\x89PNG").equal
    assert not compare(sample, "image/png", b"\x89PNH").equal
    became = compare(sample, JSON, b"1")
    assert not became.equal
    assert math.isnan(became.max_difference)
    assert "image/png became application/json" in became.text


def test_a_charset_is_no_difference() -> None:
    assert compare(sample_of("é"), "application/json; charset=utf-8", answer("é")).equal


def test_a_broken_answer_is_a_difference() -> None:
    assert "not valid JSON" in compare(sample_of([1]), JSON, b"[1").text


@given(plain_json, st.binary())
def test_sample_json_gives_the_sample_back(value: object, raw: bytes) -> None:
    sample = Sample(
        content_type=JSON,
        body=answer(value),
        expected_content_type="application/octet-stream",
        expected_body=raw,
        seed=3,
    )
    data = dump_sample(sample)
    assert parse_sample(data) == sample
    assert json.loads(data)["body"] == {"json": value}, "people can read it"


def test_a_body_that_claims_json_and_is_not_survives() -> None:
    sample = Sample(content_type=JSON, body=b"{", expected_content_type=JSON, expected_body=b"1")
    assert parse_sample(dump_sample(sample)) == sample


def test_a_damaged_sample_is_a_bundle_error() -> None:
    with pytest.raises(BundleError, match=r"sample\.json"):
        parse_sample(b"{}")
