"""A section of settings: a frozen dataclass whose fields carry their descriptions.

The description of a field is its ``Meta``, whose ``extra`` may hold ``form`` (the form that a
text must have, for messages), ``secret`` (whether the value is never shown), ``any_bytes`` (need
not be UTF-8). A setting that does not say whether it is secret is secret, unless it is a number, a
choice or a path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, NamedTuple, get_type_hints

from msgspec import Meta, inspect

_OPEN: Final = (
    inspect.IntType,
    inspect.FloatType,
    inspect.BoolType,
    inspect.LiteralType,
    inspect.NoneType,
)
"""Types of which no value is a secret."""


class Setting(NamedTuple):
    """One setting: the environment name is ``QUIRE_`` and the field's name."""

    name: str
    type: Any
    default: Any
    description: str
    form: str
    secret: bool
    any_bytes: bool


def settings_of(sections: Iterable[type]) -> dict[str, Setting]:
    """Return the settings of these sections by field name, in their order.

    Raises ValueError if two sections have a setting of the same name.
    """
    found: dict[str, Setting] = {}
    for section in sections:
        hints = get_type_hints(section, include_extras=True)
        for field in fields(section):
            if field.name in found:
                raise ValueError(f"{section.__name__}: another section has {field.name} too")
            found[field.name] = _setting(field.name, hints[field.name], field.default)
    return found


def _setting(name: str, kind: Any, default: Any) -> Setting:
    meta: Meta = kind.__metadata__[0]
    extra = meta.extra or {}
    return Setting(
        name,
        kind,
        default,
        meta.description or "",
        extra.get("form", ""),
        extra.get("secret", not _is_open(inspect.type_info(kind))),
        extra.get("any_bytes", False),
    )


def _is_open(info: inspect.Type) -> bool:
    """Return whether no value of a type can be a secret."""
    if isinstance(info, inspect.Metadata):
        return _is_open(info.type)
    if isinstance(info, inspect.UnionType):
        return all(map(_is_open, info.types))
    if isinstance(info, inspect.CustomType):
        return info.cls is Path
    return isinstance(info, _OPEN)
