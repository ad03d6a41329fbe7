"""Strings in a bundle that look like secrets: tokens by their form, others by the name that they are bound to. Pure.

Called by `export/refusals.py`, which refuses them, and `capture/cautions.py`, which warns.

detect-secrets was weighed against this table: it reads text line by line, so it knows neither the cell nor the
variable; its list lacks Hugging Face's tokens, the likeliest in a notebook; by default it sends what it finds to the
issuing service to see whether it is valid; it brings requests and PyYAML, and its last release is of May 2024.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["KNOWN", "Finding", "in_data", "in_json", "in_python", "looks_random", "names_a_secret"]

KNOWN: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("AWS access key", re.compile(r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b")),
    ("Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")),
    ("API key (sk-...)", re.compile(r"\bsk-[A-Za-z0-9_-]{20,}")),
    ("GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})\b")),
    ("GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("Slack token", re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}")),
    ("Google API key", re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b")),
    ("Stripe key", re.compile(r"\b[rs]k_live_[A-Za-z0-9]{20,}\b")),
    ("SendGrid key", re.compile(r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}")),
    ("npm token", re.compile(r"\bnpm_[A-Za-z0-9]{36}\b")),
    ("JSON web token", re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")),
    ("private key", re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")),
    ("password in a URL", re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s:/@'\"{}]+:[^\s:/@'\"{}]{3,}@[\w.-]+")),
)
"""What the issuers document of their tokens' form: a fixed prefix, an alphabet, a least length."""

_SECRET_WORDS = {"password", "passwd", "passphrase", "pwd", "secret", "token", "apikey", "credential", "credentials"}
_SECRET_PAIRS = {("api", "key"), ("access", "key"), ("private", "key"), ("secret", "key"), ("auth", "key")}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_MIN_CHARS = 8
_MIN_BITS = 3.0
"""Shannon entropy per character: 16 random hexadecimal digits have some 3.2, English words and `changeme` below 2.8."""
_LITERAL = re.compile(r"[!-~]+")
_MARKUP = re.compile(r"[<\[({].*[>\])}]")
"""Tokens of tokenizers (`<|endoftext|>`, `[PAD]`) and placeholders are no secrets."""


class Finding(NamedTuple):
    """One suspect string. name: what it is bound to, or "file:line"; where: cell or file and line; never the string."""

    name: str
    kind: str
    where: str


def names_a_secret(name: str) -> bool:
    """Whether a variable, key or argument of this name holds secrets: `db_password`, `apiKey`; not `tokenizer`."""
    words = [word.lower() for word in _WORD.findall(name)]
    return bool(words) and (words[-1] in _SECRET_WORDS or tuple(words[-2:]) in _SECRET_PAIRS)


def looks_random(text: str) -> bool:
    """Whether a string bound to such a name is a secret: long enough, no blanks, mixed characters, high entropy."""
    if len(text) < _MIN_CHARS or not _LITERAL.fullmatch(text) or _MARKUP.fullmatch(text):
        return False
    kinds = [str.islower, str.isupper, str.isdigit, lambda char: not char.isalnum()]
    if sum(any(map(kind, text)) for kind in kinds) < 2:
        return False
    counts = Counter(text)
    bits = -sum(count / len(text) * math.log2(count / len(text)) for count in counts.values())
    return bits >= _MIN_BITS


def in_python(source: str, file: str, locate: Callable[[int], str]) -> list[Finding]:
    """Suspects of a Python file: literals by form and by name, comments by form. locate: line -> where, for people."""
    found: dict[int, Finding] = {}
    for name, node in _bound_literals(ast.parse(source)):
        kind = _known(node.value) or ("secret by its name" if names_a_secret(name) and looks_random(node.value) else "")
        if kind:
            for covered in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                found.setdefault(covered, Finding(name or f"{file}:{node.lineno}", kind, locate(node.lineno)))
    for number, text in enumerate(source.splitlines(), 1):
        if number not in found and (kind := _known(text)):
            found[number] = Finding(f"{file}:{number}", kind, locate(number))
    return list(dict.fromkeys(found.values()))


def in_json(doc: Any, name: str, where: str) -> list[Finding]:
    """Suspects of plain data or a captured value's tree; `name`: what a string that has no key is called."""
    found = []
    for key, text in _keyed_strings(doc, ""):
        kind = _known(text) or ("secret by its name" if names_a_secret(key or name) and looks_random(text) else "")
        if kind:
            found.append(Finding(key or name, kind, where))
    return list(dict.fromkeys(found))


def in_data(data: bytes, file: str) -> list[Finding]:
    """Suspects of any other file, by form only."""
    text = data.decode("utf-8", "ignore")
    return [Finding(file, kind, file)] if (kind := _known(text)) else []


def _known(text: str) -> str:
    return next((kind for kind, pattern in KNOWN if pattern.search(text)), "")


class _Literal(NamedTuple):
    value: str
    lineno: int
    end_lineno: int | None


def _bound_literals(tree: ast.Module) -> Iterator[tuple[str, _Literal]]:
    """Every string literal with the nearest name: assignment target, argument, dict key, attribute; "" for none."""

    def walk(node: ast.AST, name: str) -> Iterator[tuple[str, _Literal]]:
        if isinstance(node, ast.Constant):
            value = node.value.decode("utf-8", "ignore") if isinstance(node.value, bytes) else node.value
            if isinstance(value, str):
                yield name, _Literal(value, node.lineno, node.end_lineno)
            return
        for child, child_name in _named_children(node, name):
            yield from walk(child, child_name)

    yield from walk(tree, "")


def _named_children(node: ast.AST, name: str) -> Iterator[tuple[ast.AST, str]]:
    named: dict[int, str] = {}
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if node.value is not None:
            named[id(node.value)] = next(filter(None, map(_target_name, targets)), name)
    elif isinstance(node, ast.keyword):
        named[id(node.value)] = node.arg or name
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                named[id(value)] = key.value
    elif isinstance(node, ast.arguments):
        plain = [*node.posonlyargs, *node.args]
        pairs = [*zip(plain[len(plain) - len(node.defaults) :], node.defaults, strict=True)]
        pairs += [(arg, value) for arg, value in zip(node.kwonlyargs, node.kw_defaults, strict=True) if value]
        named = {id(value): arg.arg for arg, value in pairs}
    elif isinstance(node, ast.Compare) and (compared := _target_name(node.left)):
        named = {id(value): compared for value in node.comparators}
    elif isinstance(node, _OWN_NAMES):
        name = ""
    for child in ast.iter_child_nodes(node):
        yield child, named.get(id(child), name)


_OWN_NAMES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Call, ast.Subscript)
"""What stands in these is not what the name around them is bound to: `password = os.environ["DB_PASSWORD"]`."""


def _target_name(target: ast.expr) -> str:
    if isinstance(target, ast.Name):
        return target.id
    if isinstance(target, ast.Attribute):
        return target.attr
    if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
        return str(target.slice.value)
    return ""


def _keyed_strings(doc: Any, key: str) -> Iterator[tuple[str, str]]:
    """Strings with the nearest key, of plain JSON and of the trees that bundle/structure.py describes."""
    if isinstance(doc, str):
        yield key, doc
    elif isinstance(doc, list):
        if len(doc) == 2 and isinstance(doc[0], str):  # perhaps one pair of a dict with odd keys
            yield from _keyed_strings(doc[0], key)
            yield from _keyed_strings(doc[1], doc[0])
            return
        for item in doc:
            yield from _keyed_strings(item, key)
    elif isinstance(doc, Mapping):
        for name, value in doc.items():
            yield from _keyed_strings(value, key if name in ("$", "v", "state", "body", "json") else str(name))
