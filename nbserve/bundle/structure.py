"""Live objects <-> a tree of plain data: how values stand in a bundle without pickle.

The form, and what both directions know: `encoder.py` writes (for capture), `decoder.py` reads (for `values.py`).
A module or any other object becomes its class's name and its `__dict__`, tensors go to one safetensors file, arrays to
.npy files, Hugging Face objects to the folder that `save_pretrained` writes. Reading makes objects with `cls.__new__`
and sets their state: no constructor runs, and only the few calls in `CALLS` are ever made.

The tree is JSON. What JSON has stands for itself; all else is an object with the key "$" saying what it is:

    tuple set frozenset bytes bytearray complex float(nan, inf) dict(odd keys) odict   containers and numbers
    tensor array scalar dtype device                                                   torch and numpy
    global named module method partial enum flag                                       things that have a name
    object                                                                             class, args, state
    call                                                                               one of CALLS and its arguments
    sparse quantized subclass script exported parametrized generator objects proxy struct zone         see `forms.py`
    lock rlock local, thread pool, simple queue, context variable                      made anew, see `anew.py`
    pretrained                                                                         a save_pretrained folder
    ref                                                                                something met before

Every container met counts up a number, in the same order in both directions; `ref` names that number (and the value it
is in, where that is another one): what was one object stays one object, cycles included.
"""

from __future__ import annotations

import copyreg
import pickle
import sys
import types
from typing import Any

__all__ = ["CALLS", "bare_module", "find", "global_path", "home", "is_module", "kind_of", "may_call", "reduced"]

CALLS = {
    "_codecs:encode",
    "_operator:getitem",
    "types:GenericAlias",
    "collections:Counter",
    "collections:deque",
    "collections:defaultdict",
    "datetime:date",
    "datetime:datetime",
    "datetime:time",
    "datetime:timedelta",
    "datetime:timezone",
    "decimal:Context",
    "decimal:Decimal",
    "fractions:Fraction",
    "logging:getLogger",
    "operator:attrgetter",
    "operator:itemgetter",
    "operator:methodcaller",
    "pathlib:PosixPath",
    "pathlib:PurePosixPath",
    "pathlib:PureWindowsPath",
    "re:_compile",
    "random:Random",
    "types:SimpleNamespace",
    "numpy._core.multiarray:_reconstruct",
    "numpy.ma.core:_mareconstruct",
    "numpy.random._pickle:__bit_generator_ctor",
    "numpy.random._pickle:__generator_ctor",
    "numpy.random._pickle:__randomstate_ctor",
    "numpy.random.bit_generator:__pyx_unpickle_SeedSequence",
    "pandas._libs.arrays:__pyx_unpickle_NDArrayBacked",
    "pandas._libs.internals:_unpickle_block",
    "pandas._libs.tslibs.nattype:_nat_unpickle",
    "pandas._libs.tslibs.timedeltas:_timedelta_unpickle",
    "pandas._libs.tslibs.timestamps:_unpickle_timestamp",
    "pandas.core.indexes.base:_new_Index",
    "pandas.core.indexes.datetimes:_new_DatetimeIndex",
    "pandas.core.indexes.interval:_new_IntervalIndex",
    "pandas.core.indexes.period:_new_PeriodIndex",
    "pandas.core.internals.managers:BlockManager",
    "pandas.core.internals.managers:SingleBlockManager",
    "pandas:Interval",
    "pandas:Period",
    "pandas:PeriodDtype",
    "pandas._libs.sparse:BlockIndex",
    "pandas._libs.sparse:IntIndex",
    "pandas:StringDtype",
    "sklearn.linear_model._sgd_fast:Hinge",
    "sklearn.linear_model._sgd_fast:SquaredHinge",
    "sklearn.linear_model._sgd_fast:ModifiedHuber",
    "sklearn.linear_model._sgd_fast:EpsilonInsensitive",
    "sklearn.linear_model._sgd_fast:SquaredEpsilonInsensitive",
    "sklearn.metrics._dist_metrics:newObj",
    "sklearn.neighbors._ball_tree:newObj",
    "sklearn.neighbors._kd_tree:newObj",
    "sklearn.tree._tree:Tree",
    "torch:Size",
    "uuid:UUID",
    "builtins:enumerate",
    "builtins:iter",
    "builtins:range",
    "itertools:count",
    "itertools:cycle",
    "builtins:slice",
}
"""Reductions that are calls of these: no side effects worth the name. Everything else that calls is refused.

Reviewed against every estimator of scikit-learn 1.9 that can be fitted to plain numbers, and the indexes, arrays and
scalars of pandas 3.1.
"""
_OF_LOOPS = ("asyncio.locks", "asyncio.queues")
_CALL_MODULES = ("ipaddress:", "pandas._libs.tslibs.offsets:", "sklearn._loss._loss:")
"""Modules that hold nothing but such classes."""


def may_call(path: str | None) -> bool:
    """Is this one of the calls that a bundle may make?"""
    return path is not None and (path in CALLS or path.startswith(_CALL_MODULES))


def global_path(obj: Any) -> str | None:
    """A class or function -> "module:qualified.name" if importing that gives this very object."""
    module = getattr(obj, "__module__", None)
    if module == "__main__":
        return None
    if not module:
        owner = getattr(obj, "__objclass__", None) or getattr(obj, "__self__", None)
        if isinstance(owner, type) and (held := global_path(owner)) is not None:  # str.lower, dict.fromkeys
            return f"{held}.{obj.__name__}" if find(f"{held}.{obj.__name__}") == obj else None
        return home(obj, obj.__name__) if isinstance(obj, types.BuiltinFunctionType) else None
    # torch.relu says that it is torch's _VariableFunctionsClass.relu: the short name helps.
    for name in (getattr(obj, "__qualname__", ""), getattr(obj, "__name__", "")):
        if name and find(f"{module}:{name}") is obj:
            return f"{module}:{name}"
    return None


def home(obj: Any, name: str) -> str | None:
    """A module in which `name` is this object, looked for as pickle does."""
    module = pickle.whichmodule(obj, name)  # type: ignore[attr-defined]
    path = f"{module}:{name}"
    return path if module != "__main__" and find(path) is obj else None


def find(path: str) -> Any:
    """What "module:qualified.name" is, where that module is loaded; None for nothing."""
    module, _, name = path.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def kind_of(obj: Any) -> str:
    """What a value is, for people: "torch.nn.modules.linear.Linear"."""
    cls = type(obj)
    return cls.__qualname__ if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}.{cls.__qualname__}"


def reduced(obj: Any) -> Any:
    """What pickle would ask it for: how it is made, and its state. Raises what it raises.

    Arrays of pandas come without what they have worked out and kept (`_cache`): a value is the same after it was read.
    Locks and queues of asyncio come without the loop that they were used in: a worker has its own.
    """
    registered = copyreg.dispatch_table.get(type(obj))
    parts = registered(obj) if registered is not None else obj.__reduce_ex__(4)
    state = parts[2] if isinstance(parts, tuple) and len(parts) > 2 else None
    if type(obj).__module__ in _OF_LOOPS and type(state) is dict and "_loop" in state:
        return *parts[:2], {key: value for key, value in state.items() if key != "_loop"}, *parts[3:]
    if kind_of(obj).startswith("pandas.") and type(state) is dict and "_metadata" in state:
        # A list of the class, which all tables have in common: none has it from another.
        return *parts[:2], state | {"_metadata": list(state["_metadata"])}, *parts[3:]
    if kind_of(obj).startswith("pandas.") and isinstance(state, tuple) and state and type(state[-1]) is dict:
        kept = {key: value for key, value in state[-1].items() if key != "_cache"}
        return *parts[:2], (*state[:-1], kept) if kept else state[:-1], *parts[3:]
    return parts


def is_module(obj: Any) -> bool:
    """Is it an nn.Module?"""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(obj, torch.nn.Module)


def bare_module() -> dict[str, Any]:
    """The `__dict__` of a new nn.Module of this torch: the empty hook tables that trees leave out."""
    import torch

    return dict(vars(torch.nn.Module()))
