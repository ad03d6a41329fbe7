"""Values of redacted fields in what exceptions say: gone however they are written, and all else stays to be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.errors import ErrorInfo
from nbserve.pipeline import Item
from nbserve.redaction import MAX_CHARS, MAX_VALUES, Hiding
from nbserve.tracebacks import describe

NAMES = frozenset({"customer", "password"})


def hidden(body: Any, text: str, content_type: str = "application/json") -> str:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Hiding([Item(raw, content_type)], NAMES).text(text)


@pytest.mark.parametrize(
    ("value", "said", "left"),
    [
        ("hunter2", "bad row {'password': 'hunter2'}", "bad row {'password': 'REDACTED'}"),
        ("hunter2", "user_hunter2x is unknown", "user_REDACTEDx is unknown"),
        ("Ada Lovelace", "nobody is called ADA LOVELACE", "nobody is called REDACTED"),
        ("no", "no such country: no", "REDACTED such country: REDACTED"),
        ("no", "nobody, NO and know", "nobody, NO and know"),
        ('it\'s\n"so"', repr('it\'s\n"so"'), "'REDACTED'"),
        ('it\'s\n"so"', json.dumps('it\'s\n"so"'), '"REDACTED"'),
        ("Zoë", json.dumps("Zoë") + " Zoë", '"REDACTED" REDACTED'),
        ("  padded  ", "padded!", "REDACTED!"),
        (4711, "4711, 4711.0 and 14711.5", "REDACTED, REDACTED and 1REDACTED.5"),
        (7, "7 of 17 rows, 7.0", "REDACTED of 17 rows, REDACTED"),
        (2.5, "2.5 is over 12.5", "REDACTED is over 12.5"),
        (["alpha", {"street": "Main", "no": [12]}], "alpha, street Main 12", "REDACTED, REDACTED REDACTED REDACTED"),
        (True, "True or None", "True or None"),
        (None, "True or None", "True or None"),
        ("", "nothing", "nothing"),
        ("ab", "", ""),
    ],
)
def test_a_value_is_gone_however_it_is_written(value: Any, said: str, left: str) -> None:
    assert hidden([{"in": {"Password": value}}], said) == left


def test_the_longest_goes_first_and_other_fields_stay() -> None:
    body = {"customer": ["secret", "secret sauce"], "price": "secret price", "name": "Bob"}
    assert hidden(body, "secret sauce of Bob") == "REDACTED of Bob"


def test_values_of_the_whole_batch_are_hidden() -> None:
    bodies = [Item(json.dumps({"password": each}).encode()) for each in ("first-one", "second-one")]
    assert Hiding(bodies, NAMES).text("first-one and second-one") == "REDACTED and REDACTED"


def test_forms_have_fields_and_other_text_has_none() -> None:
    form = "application/x-www-form-urlencoded"
    assert hidden(b"password=hunter2&a=1", "hunter2 with a=1", form) == "REDACTED with a=1"
    assert "withheld: a body is no JSON" in hidden(b"password=hunter2", "hunter2", "text/plain")
    assert "withheld: a body is no JSON" in hidden(b"{", "hunter2")
    assert hidden(b"\x89PNG\xff\x00", "3 channels wanted", "image/png") == "3 channels wanted", "bytes are no text"
    assert (
        hidden(b"", "an empty body", "application/octet-stream")
        == "(what it says is withheld: a body is no JSON, so that nothing could be redacted)"
    )


def test_too_many_values_and_an_endless_text() -> None:
    assert "more than 1,000 values" in hidden({"password": list(range(MAX_VALUES + 1))}, "5")
    long = "x" * (MAX_CHARS - 3) + "hunter2" + "x" * 99
    assert "hun" not in hidden({"password": "hunter2"}, long)
    assert len(hidden({"password": "hunter2"}, long)) <= MAX_CHARS + 3


def raised(said: str) -> ErrorInfo:
    """As a worker describes it: with a cause, and a source line that has the very word."""
    try:
        try:
            raise KeyError(said)
        except KeyError as exc:
            hunter2 = "the name in the source is no secret"
            raise ValueError(f"{said} is bad, {len(hunter2)}") from exc
    except ValueError as exc:
        return describe(exc, lambda file, line: f"In[{5}], line {line}" if file == __file__ else None)


def test_an_error_is_hidden_in_but_its_places_and_source_stay() -> None:
    info = raised("hunter2")
    info.details = {"cause": "ValueError: hunter2", "exit_code": 5}
    info.stage = "inference"
    found = Hiding([Item(b'{"password": ["hunter2", 5]}')], NAMES).error(info)
    assert found.message == "REDACTED is bad, 35"
    assert found.details == {"cause": "ValueError: REDACTED", "exit_code": 5}
    assert found.where == info.where
    said = [line for line in found.traceback if "REDACTED" in line]
    assert said == ["KeyError: 'REDACTED'", "ValueError: REDACTED is bad, 35"]
    assert [line for line in found.traceback if line not in said] == [
        line for line in info.traceback if not line.startswith(("KeyError: ", "ValueError: "))
    ]
    assert any("{len(hunter2)}" in line for line in found.traceback), "a line of source"
    assert info.message.startswith("hunter2"), "the given one is as it was"


def test_what_our_decoder_says_stays() -> None:
    info = ErrorInfo(type="BadRequest", message="the body is not valid JSON", stage="decode", status=400)
    assert Hiding([Item(b"{")], NAMES).error(info) is info


secrets = st.text(alphabet="XYZ#'\"\\\n é", min_size=1, max_size=12).filter(str.strip) | st.integers(10**6, 10**12)


@given(values=st.lists(secrets, min_size=1, max_size=5), depth=st.integers(0, 3), around=st.text(alphabet="abc ,:"))
def test_nothing_of_a_value_is_left(values: list[Any], depth: int, around: str) -> None:
    body: Any = {"customer": values, "a": 1}
    for _ in range(depth):
        body = {"in": [body]}
    for value in values:
        for form in {str(value), repr(value), json.dumps(value), json.dumps(value, ensure_ascii=False)}:
            inner = form[1:-1] if form[0] in "'\"" and form != str(value) else form
            found = hidden(body, f"{around} {inner} {around}")
            for other in values:
                assert len(str(other)) < 4 or str(other) not in found.replace("REDACTED", "")
