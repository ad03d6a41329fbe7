"""Objects -> trees -> objects, without pickle and without constructors."""

from __future__ import annotations

import collections
import datetime
import enum
import functools
import json
import logging
import math
import pathlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbserve.bundle.decoder import Decoder
from nbserve.bundle.encoder import Encoder, Shared, Unencodable
from nbserve.bundle.fingerprint import fingerprint
from nbserve.bundle.values import Values
from nbserve.errors import BundleError


def resolve(path: str) -> Any:
    return Values._resolve(_NO_VALUES, path)


class _NoValues:
    _namespace: dict[str, Any] = {}


_NO_VALUES: Any = _NoValues()


def round_trip(obj: Any, folder: Path) -> Any:
    """Through JSON text and files."""
    encoder = Encoder("x", Shared(), lambda _: None)
    doc = json.loads(json.dumps(encoder.encode(obj)))
    (folder / "data").mkdir(exist_ok=True)
    if encoder.weights is not None:
        encoder.weights.finish()
        (folder / "w.safetensors").write_bytes(b"".join(bytes(chunk) for chunk in encoder.weights.chunks()))
    for file, array in encoder.arrays.items():
        np.save(folder / file, array, allow_pickle=False)
    return Decoder(folder, resolve).decode("x", doc, "w.safetensors")


atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
)
keys = st.text() | st.integers() | st.booleans() | st.none() | st.tuples(st.text(), st.integers())
plain = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.sampled_from(["$", "$$", "a"]), inner)
        | st.sets(keys, max_size=4)
        | st.frozensets(keys, max_size=4)
    ),
    max_leaves=25,
)


def types_of(obj: Any) -> Any:
    """Equality that tells 1, True and 1.0 apart, and lists from tuples."""
    if isinstance(obj, dict):
        return dict, [(types_of(key), types_of(value)) for key, value in obj.items()]
    if isinstance(obj, (list, tuple)):
        return type(obj), [types_of(item) for item in obj]
    if isinstance(obj, (set, frozenset)):
        return type(obj), sorted(repr(types_of(item)) for item in obj)
    return type(obj), repr(obj)


@given(obj=plain)
@settings(deadline=None)
def test_plain_data_comes_back_as_it_was(obj: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert types_of(round_trip(obj, tmp_path_factory.getbasetemp())) == types_of(obj)


@given(items=st.sets(st.text(), min_size=2))
def test_a_set_has_one_form_whatever_its_order(items: set[str]) -> None:
    docs = [Encoder("x", Shared(), lambda _: None).encode(set(order)) for order in (items, sorted(items, reverse=True))]
    assert docs[0] == docs[1]


def test_plain_json_stands_as_it_is() -> None:
    value = {"labels": ["a", "b"], "mean": 0.5, "deep": {"x": None}}
    assert Encoder("x", Shared(), lambda _: None).encode(value) == value


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_floats_that_json_lacks(value: float, tmp_path: Path) -> None:
    assert repr(round_trip([value], tmp_path)) == repr([value])


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Point:
    """A class whose constructor must not run."""

    def __init__(self, x: int) -> None:
        self.x = x
        self.calls = 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def double(self) -> int:
        return self.x * 2


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a, self.b = 1, [2]


class WithState:
    def __init__(self) -> None:
        self.big = list(range(5))
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"big": self.big}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.big = state["big"]
        self.lock = threading.Lock()


class Table(dict[str, int]):
    pass


@pytest.mark.parametrize(
    "value",
    [
        collections.OrderedDict([("b", 1), ("a", 2)]),
        collections.Counter("hello"),
        collections.deque([1, 2], maxlen=3),
        collections.defaultdict(list, a=[1]),
        datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC),
        datetime.timedelta(seconds=3),
        pathlib.PurePosixPath("a/b"),
        re.compile(r"\w+", re.IGNORECASE),
        range(3, 9, 2),
        slice(1, None, 2),
        Colour.BLUE,
        [Colour.RED, Colour],
        bytearray(b"abc"),
        np.float32(0.1),
        np.int64(3),
        np.dtype("float64"),
        np.datetime64("2026-01-01"),
        Table(a=1),
        math.sqrt,
        np.exp,
        np.linalg.norm,
        json.JSONDecoder,
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0],
)
def test_things_of_the_standard_library_and_numpy(value: Any, tmp_path: Path) -> None:
    again = round_trip(value, tmp_path)
    assert type(again) is type(value)
    assert again == value


def test_a_logger_is_the_logger_of_that_name(tmp_path: Path) -> None:
    logger = logging.getLogger("nbserve.tests.some")
    assert round_trip({"log": logger}, tmp_path)["log"] is logger


def test_objects_come_back_without_their_constructor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point, slotted, state = Point(3), Slotted(), WithState()
    for cls in (Point, Slotted, WithState):
        monkeypatch.setattr(cls, "__init__", None)
    again = round_trip([point, slotted, state], tmp_path)
    assert again[0] == point
    assert (again[1].a, again[1].b) == (1, [2])
    assert again[2].big == state.big
    assert again[2].lock.acquire(blocking=False)


def test_partials_and_bound_methods(tmp_path: Path) -> None:
    point = Point(4)
    value = [functools.partial(math.pow, 2), point.double, point]
    power, double, again = round_trip(value, tmp_path)
    assert power(5) == 32
    assert double() == 8
    assert double.__self__ is again


def test_what_was_one_object_stays_one_object(tmp_path: Path) -> None:
    shared: list[Any] = [1]
    loop: dict[str, Any] = {"a": shared, "b": shared}
    loop["self"] = loop
    point = Point(1)
    point.friend = point  # type: ignore[attr-defined]
    again, again_point, array, array_too = round_trip([loop, point, a := np.arange(3), a], tmp_path)
    assert again["a"] is again["b"]
    assert again["self"] is again
    assert again_point.friend is again_point
    assert array is array_too


def test_what_two_values_share_stays_one_object(tmp_path: Path) -> None:
    shared = Shared()
    inner = Point(7)
    first, second = Encoder("a", shared, lambda _: None), Encoder("b", shared, lambda _: None)
    doc_a, doc_b = first.encode({"inner": inner}), second.encode([inner])
    assert second.used == {"a"}
    decoder = Decoder(tmp_path, resolve)
    assert decoder.decode("a", doc_a)["inner"] is decoder.decode("b", doc_b)[0]


@pytest.mark.parametrize(
    "array", [np.arange(6).reshape(2, 3), np.asfortranarray(np.ones((2, 3))), np.array(3.5), np.zeros((0, 4))]
)
def test_arrays(array: Any, tmp_path: Path) -> None:
    again = round_trip(array, tmp_path)
    np.testing.assert_array_equal(again, array)
    assert (type(again), again.dtype, again.flags.f_contiguous) == (np.ndarray, array.dtype, array.flags.f_contiguous)
    again[...] = 1


def test_large_arrays_are_mapped_and_writes_stay_private(tmp_path: Path) -> None:
    array = np.zeros(300_000)
    again = round_trip(array, tmp_path)
    again += 1
    assert type(again) is np.ndarray
    assert isinstance(again.base, np.memmap)
    np.testing.assert_array_equal(np.load(tmp_path / "data/x.npy"), array)


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"a": [threading.Thread()]}, "['a'][0]", "Thread"),
        ([generator()], "[0]", "generator"),
        ({"f": lambda: 1}, "['f']", "without a name"),
        (Point(threading.Thread()), ".x", "Thread"),  # type: ignore[arg-type]
        ([map(str, [1])], "[0]", "a call"),
    ],
)
def test_what_has_no_form_is_named_with_its_place(value: Any, path: str, reason: str) -> None:
    with pytest.raises(Unencodable) as caught:
        Encoder("x", Shared(), lambda _: None).encode(value)
    assert caught.value.path == path
    assert reason in caught.value.reason


def test_endless_nesting_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(Unencodable, match="too deeply"):
        Encoder("x", Shared(), lambda _: None).encode(deep)


def test_a_tree_cannot_ask_for_other_calls(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"os:system"):
        Decoder(tmp_path, resolve).decode("x", {"$": "call", "v": "os:system", "args": ["true"]})


def test_a_tree_of_another_kind_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        Decoder(tmp_path, resolve).decode("x", {"$": "unheard"})


def test_arrays_of_pandas_are_the_same_after_they_were_read() -> None:
    """They keep what they have worked out, in what they would be pickled with."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"when": pandas.date_range("2020", periods=3, tz="UTC"), "kind": ["a", "b", "a"]})
    before = json.dumps(Encoder("table", Shared(), lambda _: None).encode(table)), fingerprint({"table": table}, {})
    assert table[table.kind == "a"].when.max().day == 3
    after = json.dumps(Encoder("table", Shared(), lambda _: None).encode(table)), fingerprint({"table": table}, {})
    assert after == before
