"""Reads the values of settings from text, and describes what is wrong with an invalid one.

A message never shows the value of a text setting, because it may be a key.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import inspect

from server.settings.section import Setting

_SHOWN_MAX: Final = 40
_HOST: Final = re.compile(r"(\[[^\[\]]+\]|[^:\[\]]*)(:[0-9]{1,5})?")

_NOT_TEXT: Final = "the value is not UTF-8 text"


class BadValue(ValueError):
    """An invalid value; the text says which form is valid."""


def read_value(setting: Setting, value: object) -> Any:
    """Return the value of a setting from its text. Raises BadValue."""
    kind = setting.type
    info = _bare(inspect.type_info(kind))
    given = value
    if isinstance(info, inspect.LiteralType) and isinstance(value, str):
        given = value.lower()
    try:
        read = msgspec.convert(given, kind, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, BadValue):
            raise error.__cause__ from None
        raise BadValue(f"{_shown(info, value)} is not {_valid(setting, info)}") from None
    except UnicodeEncodeError:  # of words and numbers; texts are checked below
        raise BadValue(_NOT_TEXT) from None
    _require_text(setting, read)
    return read


def _path(kind: type, value: object) -> Path:
    if kind is not Path or not isinstance(value, str | Path):
        raise TypeError("not a path")
    if "\0" in str(value):
        raise BadValue("the value is not a path: it has a NUL character")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise BadValue(
            "the value begins with the home directory of a user that this machine does not have"
        ) from None


def _require_text(setting: Setting, read: object) -> None:
    if not isinstance(read, str) or setting.any_bytes:
        return
    try:
        read.encode()
    except UnicodeEncodeError:
        raise BadValue(_NOT_TEXT) from None
    if setting.name.startswith("database_") and not _has_hosts(read):
        raise BadValue(f"the value is not {setting.form}; its host or port can't be read")


def _has_hosts(url: str) -> bool:
    try:
        hosts = urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return False
    return all(map(_is_host, hosts.split(",")))


def _is_host(text: str) -> bool:
    """Return whether this is a host with an optional port, of which the resolver takes the name."""
    host = _HOST.fullmatch(text)
    try:
        return host is not None and bool(unquote(host[1]).encode("idna") or not host[1])
    except UnicodeError:  # a label that is empty or longer than 63 characters
        return False


def _bare(info: inspect.Type) -> inspect.Type:
    """Return the type without its description and without "or none"."""
    while isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, inspect.UnionType):
        (info,) = (_bare(one) for one in info.types if not isinstance(one, inspect.NoneType))
    return info


def _valid(setting: Setting, info: inspect.Type) -> str:
    match info:
        case inspect.IntType():
            return f"a whole number from {info.ge:,} to {info.le:,}"
        case inspect.FloatType():
            return f"a number from {info.ge:,} to {info.le:,}"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return f"one of {', '.join(map(str, info.values))}"
        case _:
            return setting.form


def _shown(info: inspect.Type, value: object) -> str:
    if isinstance(info, inspect.StrType | inspect.CustomType):
        return "the value"
    text = str(value)
    if len(text) > _SHOWN_MAX or not text.isprintable():
        return "the value"
    return f'"{text}"'
