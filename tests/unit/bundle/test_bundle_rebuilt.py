"""What a worker rebuilt, compared with what the notebook had: savers that are broken on purpose are found by path."""

# ruff: noqa: E501 - cells read better unbroken

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from nbserve.bundle import decoder, encoder, sharing
from nbserve.bundle.fingerprint import Fingerprint, differences, fingerprint
from nbserve.bundle.rebuilt import FILE, check_rebuilt
from nbserve.capture import Cells, capture
from nbserve.errors import ProofError

MODEL = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 4))
MODEL[2].bias = MODEL[0].bias
TABLE = np.arange(24.0).reshape(4, 6)
VALUES: dict[str, Any] = {
    "model": MODEL,
    "table": {"all": TABLE, "columns": TABLE[:, ::2], "names": ["a", "b"]},
    "twice": [MODEL[0], TABLE],
    "half": torch.arange(70_000, dtype=torch.float32)[::2],
}


def bundle(tmp_path: Path) -> Path:
    """A handler that uses all of VALUES."""
    names = ", ".join(VALUES)
    namespace = dict(VALUES, __name__="__main__")
    source = f"def predict(batch):\n    return [len([{names}]) for _ in batch]\n"
    cells = Cells()
    cells.add(1, source, "<cell>")
    exec(compile(source, "<cell>", "exec"), namespace)
    captured = capture(namespace["predict"], name="x", namespace=namespace, cells=cells)
    return captured.write(tmp_path).path


def check(path: Path) -> int:
    """As the first worker does it."""
    from nbserve.bundle import Bundle

    return check_rebuilt(path, vars(Bundle.open(path).load().module))


def test_what_was_saved_is_what_is_rebuilt(tmp_path: Path) -> None:
    path = bundle(tmp_path)
    assert check(path) > 30
    (path / FILE).unlink()
    assert check(path) == 0  # a bundle that was not captured from a notebook has none


def test_other_releases_may_differ(tmp_path: Path) -> None:
    path = bundle(tmp_path)
    found = msgspec.json.decode((path / FILE).read_bytes(), type=Fingerprint)
    assert found.made_with.keys() == {"python", "torch", "numpy"}
    older = msgspec.structs.replace(found, made_with=found.made_with | {"torch": "1.0"}, entries={})
    (path / FILE).write_bytes(msgspec.json.encode(older))
    assert check(path) == 0


def _drops_an_attribute(patch: pytest.MonkeyPatch) -> None:
    whole = encoder.Encoder._state

    def state(self: Any, node: Any, obj: Any, state: Any, path: str) -> None:
        whole(self, node, obj, {key: value for key, value in state.items() if key != "eps"}, path)

    patch.setattr(encoder.Encoder, "_state", state)


def _loses_a_tie(patch: pytest.MonkeyPatch) -> None:
    whole = decoder.Decoder._ref

    def ref(self: Any, doc: Any) -> Any:
        made = whole(self, doc)
        return nn.Parameter(made.detach().clone()) if isinstance(made, nn.Parameter) else made

    patch.setitem(decoder._READ_ATOMS, "ref", ref)


def _changes_a_dtype(patch: pytest.MonkeyPatch) -> None:
    whole = decoder.Decoder._tensor

    def tensor(self: Any, doc: Any, slot: int) -> Any:
        made = whole(self, doc, slot)
        return nn.Parameter(made.half()) if list(made.shape) == [4, 3] else made

    patch.setitem(decoder._READERS, "parameter", tensor)


def _swaps_numbers(patch: pytest.MonkeyPatch) -> None:
    whole = decoder.Decoder._tensor

    def tensor(self: Any, doc: Any, slot: int) -> Any:
        made = whole(self, doc, slot)
        return made + 1 if made.numel() == 35_000 else made

    patch.setitem(decoder._READERS, "tensor", tensor)


def _copies_views(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoder, "read_array", lambda stretch, doc: sharing.read_array(stretch, doc).copy())


def _forgets_a_flag(patch: pytest.MonkeyPatch) -> None:
    whole = decoder.Decoder._tensor
    patch.setitem(
        decoder._READERS,
        "parameter",
        lambda self, doc, slot: whole(self, doc, slot).requires_grad_(len(doc["key"]) > 8),
    )


def _reorders_a_list(patch: pytest.MonkeyPatch) -> None:
    whole = encoder.Encoder._list
    patch.setitem(
        encoder._WRITERS, list, lambda self, obj, path: whole(self, sorted(obj, key=repr, reverse=True), path)
    )


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (_drops_an_attribute, "model[1].eps: float 1e-05 in the notebook, missing in the worker"),
        (_loses_a_tie, "model[2].bias: the same object as model[0].bias in the notebook, an object of its own in the worker"),
        (_changes_a_dtype, "parameter float32 [4, 3], requires grad in the notebook, parameter float16 [4, 3], requires grad in the worker"),
        (_swaps_numbers, "half: tensor float32 [35000], whose content is another in the worker"),
        (_copies_views, "table['columns']: memory shared with table['all'] (+0 bytes) in the notebook, an object of its own in the worker"),
        (_forgets_a_flag, "parameter float32 [4], requires grad in the notebook, parameter float32 [4] in the worker"),
        (_reorders_a_list, "table['names']: list ['a', 'b'] in the notebook, list ['b', 'a'] in the worker"),
    ],
)  # fmt: skip
def test_a_broken_saver_is_found(
    broken: Callable[[pytest.MonkeyPatch], None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        broken(patch)
        with pytest.raises(ProofError) as caught:
            check(bundle(tmp_path))
    assert said in caught.value.message
    assert "make it in `initialize`" in caught.value.hint


def test_views_of_one_array_stay_views(tmp_path: Path) -> None:
    from nbserve.bundle import Bundle

    found = vars(Bundle.open(bundle(tmp_path)).load().module)
    found["table"]["all"][1, 2] = 77
    assert found["table"]["columns"][1, 1] == 77
    assert found["twice"][1] is found["table"]["all"]
    assert np.shares_memory(found["table"]["columns"], found["twice"][1])


def test_things_differ_by_path_and_kind() -> None:
    class Thing:
        def __init__(self, **fields: Any) -> None:
            self.__dict__ |= fields

    def between(a: Any, b: Any) -> list[tuple[str, str]]:
        return differences(fingerprint({"x": a}, {}), fingerprint({"x": b}, {}))

    one: list[int] = []
    assert between(Thing(a=[one, one]), Thing(a=[[], []])) == [
        ("x.a[1]", "the same object as x.a[0] in the notebook, an object of its own in the worker")
    ]
    assert between({"a": 1}, {"a": True}) == [("x['a']", "int 1 in the notebook, bool True in the worker")]
    assert between(list(range(9)), [*range(8), 9])[0][1].endswith("whose content is another in the worker")
    assert between({1, 2}, frozenset({1, 2})) == [("x", "set of 2 in the notebook, frozenset of 2 in the worker")]
    assert between({"a", "b"}, {"b", "a"}) == []
    large = torch.zeros(300, 300)
    assert between(large, large.t().contiguous().t()) == [
        ("x", "tensor float32 [300, 300] in the notebook, tensor float32 [300, 300], strides [1, 300] in the worker")
    ]
    assert between([np.zeros((2, 0))], [np.zeros((0, 2))])[0][0] == "x[0]"
    assert between([[one] * 3] * 2000, [[one] * 3] * 1999 + [[one] * 2]) == [
        ("x", "list of 2000, whose content is another in the worker")
    ]


def test_what_functions_close_over_is_compared() -> None:
    def make(k: list[int]) -> Any:
        def scaled(x: int, by: int = 2) -> int:
            return x * by * k[0]

        return types.FunctionType(
            scaled.__code__, {"__name__": "__main__"}, "scaled", scaled.__defaults__, scaled.__closure__
        )

    def between(a: Any, b: Any) -> list[tuple[str, str]]:
        return differences(fingerprint({"f": a}, {}), fingerprint({"f": b}, {}))

    assert between(make([1]), make([1])) == []
    assert between(make([1]), make([2])) == [("f.k", "list [1] in the notebook, list [2] in the worker")]
    other = make([1])
    other.__defaults__ = (3,)
    assert between(make([1]), other)[0][0] == "f.__defaults__"
    assert between([make([1])], [make([2])])[0][0] == "f[0].k"
