"""Expressions stand in a magic's line as they are: no quoting, no expansion, and options may follow."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.errors import UsageError
from nbserve.notebook.parsing import parse, split_sample, take_expression
from nbserve.verbs import VERBS, command


@pytest.mark.parametrize(
    ("line", "rest", "sample"),
    [
        ("digits --sample x_test[0]", "digits", "x_test[0]"),
        ("digits --sample x[0] --workers 2", "digits --workers 2", "x[0]"),
        ("--workers 2 --sample x[0] digits", None, None),
        ("digits --sample=x[0]", "digits", "x[0]"),
        ('digits --sample {"a": "b --c d", "e": [1, 2]} --detach', "digits --detach", '{"a": "b --c d", "e": [1, 2]}'),
        ("digits --sample '$HOME {x}'", "digits", "'$HOME {x}'"),
        ("digits --sample f(a, b) - c --no-wait", "digits --no-wait", "f(a, b) - c"),
        ("digits --sample [i for i in range(3) if i]", "digits", "[i for i in range(3) if i]"),
        ("digits --workers 2", "digits --workers 2", None),
        ("digits", "digits", None),
    ],
)
def test_the_sample_ends_where_it_parses_and_an_option_or_the_end_follows(
    line: str, rest: str | None, sample: str | None
) -> None:
    if rest is None:
        with pytest.raises(UsageError, match="--sample: not an expression"):
            split_sample(line)
    else:
        assert split_sample(line) == (rest, sample)


@pytest.mark.parametrize(
    "line", ["digits --sample", "digits --sample --workers 2", "digits --sample x[", "d --sample a b"]
)
def test_no_expression_is_said_so(line: str) -> None:
    with pytest.raises(UsageError, match="--sample: not an expression"):
        split_sample(line)


_NAMES = st.sampled_from(
    ["x", "x[0]", "f(x)", "{'a': 1}", "'a --b'", '"$A {b}"', "[1, -2]", "lambda v: v", "a if b else c"]
)


@given(
    expression=st.lists(_NAMES, min_size=1, max_size=3).map(" + ".join),
    options=st.lists(st.sampled_from(["--workers 2", "--detach", "--env A=1"]), max_size=3),
)
def test_what_is_taken_is_the_expression_whatever_follows(expression: str, options: list[str]) -> None:
    try:
        ast.parse(expression, mode="eval")
    except SyntaxError:  # "x + lambda v: v"
        return
    taken, rest = take_expression(" ".join([expression, *options]))
    assert taken == expression
    assert rest == " ".join(options)


def test_a_serve_line_is_parsed_whole() -> None:
    params = parse(
        command(VERBS["serve"], "magic"),
        'nets["a b"].eval() --name net --sample x[0] --env "A=b c" --env B=1 --workers auto --no-wait',
        target_is_expression=True,
    )
    assert params["target"] == 'nets["a b"].eval()'
    assert params["name"] == "net"
    assert params["sample"] == "x[0]"
    assert params["env"] == (("A", "b c"), ("B", "1"))
    assert params["workers"] == "auto"
    assert params["no_wait"] is True


@pytest.mark.parametrize(
    ("line", "data"),
    [
        ("digits --data x_test[0] --rate 5", "x_test[0]"),
        ('digits --data {"a": [1, -2]} --rate 5', '{"a": [1, -2]}'),
        ("digits --rate 5 --data ./rows.jsonl", "./rows.jsonl"),  # no expression: left to click, as a path
        ("digits --rate 5 --data rows.jsonl", "rows.jsonl"),  # an expression too: which one it is, the files decide
        ("digits --rate 5", None),
    ],
)
def test_data_of_bench_is_an_expression_or_a_path(line: str, data: str | None) -> None:
    params = parse(command(VERBS["bench"], "magic"), line)
    assert (params["name"], params["rate"], params["data"]) == ("digits", 5.0, data)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("m --worker 2", "--workers"),
        ("m --workers two", "neither a number nor 'auto'"),
        ("m --swap maybe", "'blue-green'"),
        ("", "OBJECT"),
        ('m --env "A=1', "No closing quotation"),
    ],
)
def test_what_is_wrong_is_one_line_with_what_was_meant(line: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(command(VERBS["serve"], "magic"), line, target_is_expression=True)
    assert says in caught.value.message
    assert "\n" not in caught.value.message
