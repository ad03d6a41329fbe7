"""The contract a handler keeps: the first file to read, and the only one a handler's author needs.

Written by users in notebook cells; driven by `pipeline.py` in workers, and in the notebook for the proof.
Any class with these methods will do; inheriting from `Handler` gives defaults for the ones left out.

A batch goes through five steps, of which the middle three are the handler's:

    decode       bytes -> Row, one request at a time (a body that fails fails alone)
    preprocess   list[Row] -> batch
    inference    batch -> outputs                (under torch.inference_mode where torch is loaded)
    postprocess  outputs -> list of answers, one per row, in order
    encode       answer -> bytes, one at a time
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nbserve.errors import BadRequest
from nbserve.metrics import Metrics

__all__ = ["Context", "Handler", "MissingField", "Row", "to_answers"]


class MissingField(BadRequest, KeyError):
    """A row was asked for a field that the client did not send: status 400, the message names the field."""

    def __init__(self, name: str) -> None:
        super().__init__(f"field {name!r} is missing")

    __str__ = BadRequest.__str__


class Row(dict[str, Any]):
    """One request: `{"body": decoded}` as TorchServe has it.

    `row.payload` is the field `data` where the client sent one, else the body.
    If the body is a JSON object its keys can be read from the row itself: `row["text"]`.
    """

    __slots__ = ()

    @property
    def payload(self) -> Any:
        """What the client sent: `data` if there is such a field, else `body`."""
        if "data" in self:
            return self["data"]
        body = self.get("body")
        if isinstance(body, dict) and "data" in body:
            return body["data"]
        return body

    def __missing__(self, key: str) -> Any:
        body = self.get("body")
        if isinstance(body, dict) and key in body:
            return body[key]
        raise MissingField(key)


class Context:
    """What a handler may know about where it runs. Handed to `initialize`.

    device: "cpu" or "cuda:0". threads: compute threads of this worker. worker: its number, from 0.
    model_dir: the bundle's folder. metrics: counters, gauges and histograms that reach `/metrics`.
    request_ids: ids of the batch in hand, in row order. headers: of the same requests, lower-case names; only
    "traceparent" (W3C Trace Context), where the client sent one that is valid.
    """

    def __init__(
        self,
        *,
        name: str,
        version: str = "",
        device: str = "cpu",
        threads: int = 1,
        worker: int = 0,
        model_dir: str = "",
        metrics: Metrics | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.device = device
        self.threads = threads
        self.worker = worker
        self.model_dir = model_dir
        self.metrics = metrics if metrics is not None else Metrics()
        self.request_ids: Sequence[str] = ()
        self.headers: Sequence[Mapping[str, str]] = ()


class Handler:
    """Base class with defaults: payloads in, whatever `inference` returns out.

    `self.context` and `self.metrics` are set before `initialize` is called.
    """

    context: Context
    metrics: Metrics

    def initialize(self, context: Context) -> None:
        """Called once in each worker before it takes traffic."""

    def preprocess(self, rows: list[Row]) -> Any:
        """Rows of one batch -> the batch for `inference`. Default: the list of payloads."""
        return [row.payload for row in rows]

    def inference(self, batch: Any) -> Any:
        """Batch -> outputs. Required. Its hint may ask for arrays: nbserve/intake.py."""
        raise TypeError(f"{type(self).__name__} has no inference method")

    def postprocess(self, outputs: Any) -> Any:
        """Outputs -> answers, one per row. Default: the outputs, tensors and arrays as nested lists."""
        return to_answers(outputs)


def to_answers(outputs: Any) -> list[Any]:
    """Outputs -> list of answers: tensors and arrays split along the first axis, iterables listed."""
    if hasattr(outputs, "detach"):
        return list(outputs.detach().cpu().tolist())
    if hasattr(outputs, "tolist"):
        return list(outputs.tolist())
    if isinstance(outputs, dict):
        keys, columns = list(outputs), [to_answers(value) for value in outputs.values()]
        return [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]
    if isinstance(outputs, (list, tuple, Iterator)):
        return list(outputs)
    raise TypeError(f"cannot split a {type(outputs).__name__} into answers; return a list, one answer per row")
