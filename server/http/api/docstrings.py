"""Reads the docstrings of types and of their fields, for the description of the API."""

from __future__ import annotations

import ast
import inspect
import sys
from enum import Enum
from functools import cache
from typing import Final

_WITHOUT_SOURCE: Final = frozenset({"builtins", "enum", "msgspec"})


def prose(text: str | None) -> str:
    """Return a docstring as Markdown, each paragraph on one line."""
    paragraphs = inspect.cleandoc(text or "").replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def field_texts(cls: type) -> dict[str, str]:
    """Return the docstrings below the fields of a class and of its bases, by field."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.partition(".")[0] not in _WITHOUT_SOURCE:
            found |= _texts(base.__module__).get(base.__name__, {})
    return found


def type_text(cls: type) -> str:
    """Return the docstring of a class; for an enum, with a line for each value."""
    lines = [prose(cls.__doc__)]
    if issubclass(cls, Enum):
        texts = field_texts(cls)
        lines += [f"- `{one.value}`: {texts[one.name]}" for one in cls if one.name in texts]
    return "\n".join(lines)


@cache
def _texts(module: str) -> dict[str, dict[str, str]]:
    """Return the strings below the fields of a module's classes, by class and field."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {
        node.name: dict(_under_fields(node))
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


def _under_fields(node: ast.ClassDef) -> list[tuple[str, str]]:
    found = []
    for field, below in zip(node.body, node.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found.append((name, prose(text)))
    return found
