"""One table, three faces: same names, options and defaults in each."""

from __future__ import annotations

import inspect
from typing import Any

import click
import pytest

from nbserve.config import ModelConfig
from nbserve.endpoint import Endpoint
from nbserve.errors import UsageError
from nbserve.options import model_config
from nbserve.resolve import Gateways
from nbserve.verbs import VERBS, command, invoke

OF_NAMES = ["status", "stop", "explain", "verify", "bench"]
"""They take an endpoint's name, and something else too."""
OF_THE_FIRST_RELEASE = {"serve", "list", "status", "logs", "stop", "scale", "predict", "explain", "token", "demo"}


def test_the_table_has_the_verbs() -> None:
    assert set(VERBS) >= OF_THE_FIRST_RELEASE


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.on == "endpoint"] + OF_NAMES)
def test_endpoint_has_every_verb_of_an_endpoint(name: str) -> None:
    assert hasattr(Endpoint, name)
    if name in ("token", "failures", "predict"):  # properties; native values in Python, bytes elsewhere
        return
    method = inspect.signature(getattr(Endpoint, name))
    options = {param.name: param for param in VERBS[name].params}
    for parameter in list(method.parameters.values())[1:]:
        assert parameter.name in options, f"Endpoint.{name}({parameter.name}=) is no option of the verb"
        if parameter.default is not inspect.Parameter.empty:
            assert parameter.default == options[parameter.name].get_default(click.Context(click.Command("x")))


FOUND_BY = {"name", "gateway", "version", "as_json"}
"""Options that say which endpoint is meant, and how it is shown: an `Endpoint` is one, and returns plain data."""
NOT_IN_PYTHON = {
    "stop": {"all_"},  # of other endpoints
    "bench": {"method", "headers"},  # for URLs that are no endpoints
    "profile": {"list_", "no_wait", "stop"},  # of one that goes on behind a cell
    "export": {"kind"},  # there is one
}


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.on == "endpoint"] + OF_NAMES)
def test_endpoint_has_every_option_of_its_verbs(name: str) -> None:
    if name in ("token", "failures", "predict"):
        return
    has = set(inspect.signature(getattr(Endpoint, name)).parameters) - {"self"}
    assert {param.name for param in VERBS[name].params} - FOUND_BY - has == NOT_IN_PYTHON.get(name, set())


@pytest.mark.parametrize("face", ["cli", "magic"])
def test_serve_without_options_is_the_default_configuration(face: Any) -> None:
    parsed = command(VERBS["serve"], face).make_context("serve", ["target"])
    assert model_config(parsed.params) == ModelConfig()


def test_serve_has_an_option_for_every_field_of_the_configuration() -> None:
    options = {param.name for param in VERBS["serve"].params}
    assert options - {"name"} == set(ModelConfig.__struct_fields__)


def test_every_option_reaches_the_configuration() -> None:
    words = (
        "target --workers auto --threads 2 --max-batch-size 8 --max-batch-delay-ms 1.5 --slo-ms 50 "
        "--response-timeout-s 3 --startup-timeout-s 4 --max-queue-size 5 --max-queue-bytes 6 --device cuda:1 "
        "--env A=1 --env B=x=y --swap rolling --proof off --isolate off --retries 0 --max-requests 7 --max-rss 8"
    )
    parsed = command(VERBS["serve"], "cli").make_context("serve", words.split())
    assert model_config(parsed.params) == ModelConfig(
        workers="auto",
        threads=2,
        max_batch_size=8,
        max_batch_delay_ms=1.5,
        slo_ms=50,
        response_timeout_s=3,
        startup_timeout_s=4,
        max_queue_size=5,
        max_queue_bytes=6,
        device="cuda:1",
        env={"A": "1", "B": "x=y"},
        swap="rolling",
        proof="off",
        isolate="off",
        retries=0,
        max_requests=7,
        max_rss_bytes=8,
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--workers 0", "--workers must be positive, not 0"),
        ("--max-batch-delay-ms -1", "--max-batch-delay-ms must not be negative"),
        ("--max-rss 0MB", "--max-rss must be positive, not 0"),
        ("--device tpu", "--device must be auto, cpu, cuda or cuda:i, not 'tpu'"),
    ],
)
def test_values_that_cannot_be_are_named_as_options(words: str, says: str) -> None:
    parsed = command(VERBS["serve"], "cli").make_context("serve", ["target", *words.split()])
    with pytest.raises(UsageError, match=says):
        model_config(parsed.params)


@pytest.mark.parametrize(
    ("words", "size_bytes"),
    [("2GB", 2 * 10**9), ("1500MB", 1_500_000_000), ("1GiB", 2**30), ("1.5 gib", 3 * 2**29), ("4096", 4096), ("7b", 7)],
)
@pytest.mark.parametrize("face", ["cli", "magic"])
def test_a_size_is_bytes_or_has_a_unit(face: str, words: str, size_bytes: int) -> None:
    parsed = command(VERBS["serve"], face).make_context("serve", ["target", "--max-rss", words])
    assert model_config(parsed.params).max_rss_bytes == size_bytes


@pytest.mark.parametrize(
    "words", ["--workers two", "--env A", "--env =1", "--swap never", "--worker 2", "--max-rss 2XB"]
)
def test_values_that_are_not_even_of_the_type_are_usage_errors_of_click(words: str) -> None:
    with pytest.raises(click.UsageError):
        command(VERBS["serve"], "cli").make_context("serve", ["target", *words.split()])


@pytest.mark.parametrize("params", [{"name": "", "all_": False}, {"name": "x", "all_": True}])
def test_stop_wants_a_name_or_all(params: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="or --all"):
        invoke(VERBS["stop"], Gateways(), {"gateway": "", "version": "", **params})
