"""What is wrong with a body that did not decode, in words for the person who sent it.

Decoders name types and byte offsets of their own; nothing here decides whether a
body is taken. It runs once a body was refused, so it may be slow.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, Final

import msgspec

EXPLAINED_BYTES: Final = 1 << 20
"""Larger bodies are not read a second time to explain them."""
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"\x00\x00\xfe\xff")
_SURROGATE: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}|\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_AT: Final = re.compile(r"(.*?)(?: - at (.*))?", re.DOTALL)
_INDEX: Final = re.compile(r"\[(?:\d+|\.\.\.)\]")
_KINDS: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "None": "null",
    "object": "an object",
    "array": "an array",
    "bytes": "binary data",
    "ext": "an extension value",
}
_BOUNDS: Final = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_UNITS: Final = {"str": "characters", "array": "elements", "object": "members", "bytes": "bytes"}


def json_fault(body: bytes, error: Exception) -> str:
    """Why these bytes are not JSON, as the end of a sentence about them."""
    if body.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark; send it without"
    if body.startswith(_UTF_16) or b"\x00" in body[:4]:
        return "it is UTF-16 or UTF-32 or holds NUL bytes; send UTF-8"
    try:
        text = body.decode()
    except UnicodeDecodeError as fault:
        return f"it is not UTF-8: byte {fault.start} is out of place"
    explained = _syntax_fault(text) if len(body) <= EXPLAINED_BYTES else None
    return explained or _plain(error)


def _syntax_fault(text: str) -> str | None:
    """What another reader finds, which says where; None where it finds nothing."""
    try:
        json.loads(text, parse_constant=_no_constant, parse_int=str, parse_float=str)
    except _NotJson as fault:
        return str(fault)
    except json.JSONDecodeError as fault:
        return _located(text, fault)
    except RecursionError:
        return None
    if _SURROGATE.search(text) is None:
        return None
    return (
        "it holds half of a surrogate pair (an escape from \\ud800 to \\udfff without its other "
        "half), which is no character"
    )


def msgpack_fault(error: Exception) -> str:
    """Why bytes are not MessagePack, as the end of a sentence about them."""
    if isinstance(error, UnicodeError):
        return "a text in it is not UTF-8"
    return _plain(error)


def misfit(error: msgspec.ValidationError, kind: Any = None, *, what: str = "it") -> str:
    """Which part of a decoded body is not as it should be: a whole sentence.

    With the type that was asked for, the values of a choice are named, and the
    description of a form. ``what`` names the body where no part is at fault.
    """
    match = _AT.fullmatch(str(error))
    assert match is not None
    said, place = match[1], match[2] or ""
    path = place.strip("`").removeprefix("$").removeprefix(".")
    if place.startswith("`key`"):
        return f"the names in an object must be text, {_got(said)}"
    name = path or what
    if "matching regex" in said or said.startswith("Invalid enum value"):
        return f"{name} must be {_form(kind, path)}"
    for form, word in _FORMS:
        if found := form.fullmatch(said):
            return word(name, path, found)
    return f"{name}: {said[:1].lower()}{said[1:]}".replace("`", "")


def _missing(name: str, path: str, found: re.Match[str]) -> str:
    return f"{name} lacks {found[1]}" if path else f"{found[1]} is missing"


def _unknown(_: str, path: str, found: re.Match[str]) -> str:
    return f'"{_shown(found[1])}" is no member {f"of {path}" if path else "here"}'


def _length(name: str, _: str, found: re.Match[str]) -> str:
    unit = _UNITS.get(found[1], "bytes")
    return f"{name} must have {_BOUNDS[found[2]]} {found[3]} {unit}"


def _limit(name: str, _: str, found: re.Match[str]) -> str:
    return f"{name} must be {_BOUNDS[found[1]]} {found[2]}"


def _kind(name: str, _: str, found: re.Match[str]) -> str:
    kinds = " or ".join(_KINDS.get(one, one) for one in found[1].split(" | "))
    return f"{name} must be {kinds}, {_got(found[0])}"


_FORMS: Final = (
    (re.compile(r"Object missing required field `(.+)`"), _missing),
    (re.compile(r"Object contains unknown field `(.*)`", re.DOTALL), _unknown),
    (re.compile(r"Expected `(\w+)` of length (>=|<=) (\d+)"), _length),
    (re.compile(r"Expected `\w+` (>=|<=|>|<) (\S+)"), _limit),
    (re.compile(r"Expected `([\w |]+)`, got `.*`"), _kind),
)


class _NotJson(Exception):
    """A word that Python's reader takes and JSON has not."""


def _no_constant(word: str) -> Any:
    raise _NotJson(f"{word} is no number in JSON; send null or a text instead")


def _located(text: str, fault: json.JSONDecodeError) -> str:
    place = f"line {fault.lineno}, column {fault.colno}"
    if "\n" not in text.strip():
        place = f"character {fault.colno}"
    if fault.pos >= len(text.rstrip()) or fault.msg.startswith("Unterminated string"):
        return f"it ends before it is complete ({place})"
    said = fault.msg.removesuffix(" at")
    return f"{said[:1].lower()}{said[1:]} ({place})"


def _plain(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    said = str(error)
    if said == "Input data was truncated":
        return "it ends before it is complete"
    if found := re.search(r"invalid opcode '\\x(\w\w)' \(byte (\d+)\)", said):
        return f"byte {found[2]} (0x{found[1]}) begins no value"
    if isinstance(error, msgspec.ValidationError):
        return misfit(error)
    said = said.rpartition("malformed: ")[2]
    return said.replace("(byte ", "(at byte ")


def _got(said: str) -> str:
    kind = said.rpartition("got `")[2].rstrip("`")
    return "not a fraction" if kind == "float" else f"not {_KINDS.get(kind, kind)}"


def _shown(name: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in name[:64])


def _form(kind: Any, path: str) -> str:
    """What a text may be: its choices, or the description of its form."""
    found = None if kind is None else _type_at(msgspec.inspect.type_info(kind), path)
    bare = _bare(found)
    if isinstance(bare, msgspec.inspect.LiteralType):
        return " or ".join(f'"{value}"' for value in bare.values)
    if isinstance(found, msgspec.inspect.Metadata) and found.extra_json_schema:
        return str(found.extra_json_schema["description"])
    return "one of the values that are taken here"


def _type_at(found: Any, path: str) -> Any:
    """The type of a member of a type, by the path in which msgspec names it."""
    for name in filter(None, _INDEX.sub(".[]", path).split(".")):
        found = next((one for one in _choices(found) if _inside(one, name) is not None), None)
        found = None if found is None else _inside(found, name)
    choices = [one for one in _choices(found) if not isinstance(one, msgspec.inspect.NoneType)]
    return choices[0] if choices else None


def _bare(found: Any) -> Any:
    """The type without what is said of it: its title, its description, examples."""
    return found.type if isinstance(found, msgspec.inspect.Metadata) else found


def _choices(found: Any) -> tuple[Any, ...]:
    bare = _bare(found)
    return tuple(bare.types) if isinstance(bare, msgspec.inspect.UnionType) else (found,)


def _inside(found: Any, name: str) -> Any:
    found = _bare(found)
    if isinstance(found, msgspec.inspect.ListType):
        return found.item_type if name == "[]" else None
    if not isinstance(found, msgspec.inspect.StructType):
        return None
    return next((one.type for one in found.fields if one.encode_name == name), None)
