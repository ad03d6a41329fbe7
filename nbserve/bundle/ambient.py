"""Settings that live in a process and change answers: read in the notebook, set again in workers.

`snapshot` is called by capture; `ambient(...)` is the line that it becomes in a bundle's handler.py, before anything
is defined. What is as Python, torch, numpy and pandas start with is left out; so is what belongs to a worker (threads,
devices) and random states, which the proof seeds.
"""

from __future__ import annotations

import decimal
import importlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from nbserve.bundle.structure import global_path

__all__ = ["ambient", "snapshot"]

_PRINT_DEFAULTS = {
    "edgeitems": 3,
    "threshold": 1000,
    "floatmode": "maxprec",
    "precision": 8,
    "suppress": False,
    "linewidth": 75,
    "nanstr": "nan",
    "infstr": "inf",
    "sign": "-",
}
"""numpy.set_printoptions, as documented."""
_ERROR_DEFAULTS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
"""numpy.seterr, as documented."""
_USUAL_RECURSION = (1000, 3000)
"""Python's limit, and the one that ipykernel sets."""
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY", re.IGNORECASE)


def snapshot(
    packages: set[str], texts: Iterable[str], *, filtered: bool = False, loggers: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """(arguments for `ambient`, warnings). packages: what the handler imports, others' settings do not concern it.

    texts: the captured code. An environment variable goes along where the notebook set it and the code names it, and
    it does not look like a secret; a logger's level where the code names it, or it is one of `loggers`, or the root.
    filtered: the notebook made warnings errors.
    """
    found: dict[str, Any] = {}
    text = "\n".join(texts)
    if "torch" in packages:
        found |= _torch()
    if packages & {"numpy", "pandas", "sklearn", "scipy"}:
        found |= _numpy()
    if "pandas" in packages:
        found |= _pandas()
    if "decimal" in packages:
        found |= _decimal()
    if filtered and (filters := _warning_filters()):
        found["warning_filters"] = filters
    if "logging" in packages:
        found |= _logging(text, loggers)
    if sys.getrecursionlimit() not in _USUAL_RECURSION:
        found["recursion_limit"] = sys.getrecursionlimit()
    environ, notes = _environ(text)
    return found | environ, notes


def ambient(
    *,
    default_dtype: str | None = None,
    matmul_precision: str | None = None,
    deterministic: bool = False,
    numpy_print: dict[str, Any] | None = None,
    numpy_errors: dict[str, str] | None = None,
    pandas_options: dict[str, Any] | None = None,
    decimal_context: dict[str, Any] | None = None,
    warning_filters: list[tuple[str, str, str, str]] | None = None,
    recursion_limit: int | None = None,
    logging_levels: dict[str, int] | None = None,
    logging_disabled: int = 0,
    logging_format: tuple[str | None, str | None] | None = None,
    environ: dict[str, str] | None = None,
) -> None:
    """Set what the notebook had set. Called by handler.py."""
    os.environ.update(environ or {})
    for name, level in (logging_levels or {}).items():
        logging.getLogger(name).setLevel(level)
    if logging_disabled:
        logging.disable(logging_disabled)
    if logging_format is not None:  # where this process logs in a way of its own, that stays
        logging.basicConfig(format=logging_format[0] or logging.BASIC_FORMAT, datefmt=logging_format[1])
    for action, message, category, module in reversed(warning_filters or []):
        owner, _, name = category.partition(":")
        kind = getattr(importlib.import_module(owner), name)
        warnings.filterwarnings(action, message, kind, module)  # type: ignore[arg-type]
    if recursion_limit is not None:
        sys.setrecursionlimit(recursion_limit)
    if default_dtype is not None or matmul_precision is not None or deterministic:
        import torch

        if default_dtype is not None:
            torch.set_default_dtype(getattr(torch, default_dtype))
        if matmul_precision is not None:
            torch.set_float32_matmul_precision(matmul_precision)
        if deterministic:
            torch.use_deterministic_algorithms(True)
    if numpy_print or numpy_errors:
        import numpy

        numpy.set_printoptions(**(numpy_print or {}))
        numpy.seterr(**(numpy_errors or {}))  # type: ignore[arg-type]
    if pandas_options:
        import pandas  # type: ignore[import-untyped,import-not-found,unused-ignore]

        for key, value in pandas_options.items():
            pandas.set_option(key, value)
    for key, value in (decimal_context or {}).items():
        setattr(decimal.getcontext(), key, value)


def _torch() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {}
    if (dtype := torch.get_default_dtype()) is not torch.float32:
        found["default_dtype"] = str(dtype).removeprefix("torch.")
    if (precision := torch.get_float32_matmul_precision()) != "highest":
        found["matmul_precision"] = precision
    if torch.are_deterministic_algorithms_enabled():
        found["deterministic"] = True
    return found


def _numpy() -> dict[str, Any]:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return {}
    found: dict[str, Any] = {}
    options = numpy.get_printoptions()
    if changed := {key: options[key] for key, usual in _PRINT_DEFAULTS.items() if options[key] != usual}:
        found["numpy_print"] = changed
    if changed := {key: value for key, value in numpy.geterr().items() if value != _ERROR_DEFAULTS[key]}:
        found["numpy_errors"] = changed
    return found


def _pandas() -> dict[str, Any]:
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return {}
    config = pandas._config.config
    plain = (bool, int, float, str, type(None))
    changed = {}
    for key, option in sorted(config._registered_options.items()):
        if key in config._deprecated_options:
            continue
        value = pandas.get_option(key)
        if isinstance(value, plain) and value != option.defval:
            changed[key] = value
    return {"pandas_options": changed} if changed else {}


def _decimal() -> dict[str, Any]:
    context, usual = decimal.getcontext(), decimal.DefaultContext
    names = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
    changed = {name: getattr(context, name) for name in names if getattr(context, name) != getattr(usual, name)}
    return {"decimal_context": changed} if changed else {}


def _logging(text: str, held: Collection[str]) -> dict[str, Any]:
    """Levels that were set, "" for the root logger; a logger counts with those that it inherits its level from."""
    quoted = re.compile(r"""["']([\w.-]+)["']""")
    root = logging.getLogger()
    loggers = {name: each for name, each in root.manager.loggerDict.items() if isinstance(each, logging.Logger)}
    named = {*held, *quoted.findall(text.replace('"__main__"', ""))}
    wanted = {".".join(name.split(".")[:count]) for name in named for count in range(1, name.count(".") + 2)}
    levels = {name: loggers[name].level for name in sorted(wanted & loggers.keys()) if loggers[name].level}
    if root.level != logging.WARNING:
        levels[""] = root.level
    found: dict[str, Any] = {"logging_levels": levels} if levels else {}
    for handler in root.handlers:
        if type(handler) is logging.StreamHandler and handler.stream in (sys.stderr, sys.stdout):
            formatter = handler.formatter
            found["logging_format"] = (formatter._fmt, formatter.datefmt) if formatter is not None else (None, None)
    return found | ({"logging_disabled": root.manager.disable} if root.manager.disable else {})


def _warning_filters() -> list[tuple[str, str, str, str]]:
    """(action, message, category, module) of what was made an error, the first to match first."""
    found = []
    for action, message, category, module, line in warnings.filters:
        path = global_path(category)
        if action == "error" and not line and path is not None and not path.startswith("IPython"):
            found.append((action, _pattern(message), path, _pattern(module)))
    return found


def _pattern(expression: Any) -> str:
    return getattr(expression, "pattern", expression) or ""


def _environ(text: str) -> tuple[dict[str, Any], list[str]]:
    """Variables that the process did not start with, as far as the code names them."""
    try:
        started = dict(part.split("=", 1) for part in Path("/proc/self/environ").read_text().split("\0") if "=" in part)
    except OSError:  # no Linux: nobody says what the process started with
        return {}, []
    named = {name for name, value in os.environ.items() if started.get(name) != value}
    named = {name for name in named if re.search(rf"""["']{re.escape(name)}["']""", text)}
    notes = [
        f"the environment variable {name} looks like a secret and is not shipped: set it where workers start"
        for name in sorted(named)
        if _SECRET.search(name)
    ]
    found = {name: os.environ[name] for name in sorted(named) if not _SECRET.search(name)}
    return ({"environ": found} if found else {}), notes
