"""Explain to the sender why a body did not decode.

Decoders report their own type names and byte offsets; this module translates
them. It never decides whether a body is accepted, and it runs only after a
refusal, so it may be slow.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, Final

import msgspec

EXPLAINED_BYTES: Final = 1 << 20
"""Larger bodies are not parsed a second time for an explanation."""
_GZIP: Final = b"\x1f\x8b"
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
    "datetime": "an RFC 3339 time",
    "date": "a date",
    "uuid": "a UUID",
    "decimal": "a decimal number",
}
_BOUNDS: Final = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_UNITS: Final = {"str": "character", "array": "element", "object": "member", "bytes": "byte"}


def mark_of(content: bytes) -> str | None:
    """Return what is wrong with a file that begins with a byte order mark; None for any other."""
    if content.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark; save it as UTF-8 without one"
    if content.startswith(_UTF_16):
        return "it is UTF-16 or UTF-32, as PowerShell writes it; save it as UTF-8"
    return None


def json_fault(body: bytes, error: Exception) -> str:
    """Explain why these bytes are not JSON: the end of a sentence with them as "it"."""
    if body.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark; send it without"
    if body.startswith(_GZIP):
        return "it is compressed with gzip; send it uncompressed"
    if body.startswith(_UTF_16) or b"\x00" in body[:4]:
        return "it is UTF-16 or UTF-32 or holds NUL bytes; send UTF-8"
    try:
        text = body.decode()
    except UnicodeDecodeError as fault:
        return f"it is not UTF-8: byte {fault.start} is out of place"
    explained = _syntax_fault(text) if len(body) <= EXPLAINED_BYTES else None
    return explained or _plain(error)


def _syntax_fault(text: str) -> str | None:
    """Return the fault that Python's reader finds, with its position; None if it finds none."""
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
        "half), which is not a character"
    )


def msgpack_fault(error: Exception) -> str:
    """Explain why bytes are not MessagePack: the end of a sentence with them as "it"."""
    if isinstance(error, UnicodeError):
        return "a text in it is not UTF-8"
    return _plain(error)


def misfit(error: msgspec.ValidationError, kind: Any = None, *, what: str = "it") -> str:
    """Explain which part of a decoded body is not valid: a whole sentence.

    ``kind`` is the type of the whole body: with it the message lists the values
    of a choice and gives the description of a form. ``what`` names the body if
    no part is at fault.
    """
    match = _AT.fullmatch(str(error))
    assert match is not None
    message, place = match[1], match[2] or ""
    path = place.strip("`").removeprefix("$").removeprefix(".")
    if place.startswith("`key`"):
        return f"the names in an object must be text, {_received(message)}"
    name = _part_name(path) or what
    if "matching regex" in message or message.startswith("Invalid enum value"):
        return f"{name} must be {_form(kind, path)}"
    for pattern, explain in _EXPLANATIONS:
        if found := pattern.fullmatch(message):
            return explain(name, path, found)
    return f"{name} is not valid here"


def _part_name(path: str) -> str:
    parent = path.removesuffix("[...]")
    return path if parent == path else f"a value in {parent or 'the object'}"


def _missing(name: str, path: str, found: re.Match[str]) -> str:
    return f"{name} lacks {found[1]}" if path else f"{found[1]} is missing"


def _unknown(_: str, path: str, found: re.Match[str]) -> str:
    return f'"{_printable(found[1])}" is not a member {f"of {path}" if path else "here"}'


def _length(name: str, _: str, found: re.Match[str]) -> str:
    kind, operator, count = found.groups()
    plural = "" if count == "1" else "s"
    bound = f"{_BOUNDS[operator]} " if operator else ""
    return f"{name} must have {bound}{count} {_UNITS.get(kind, 'byte')}{plural}"


def _limit(name: str, _: str, found: re.Match[str]) -> str:
    return f"{name} must be {_BOUNDS[found[1]]} {found[2].removesuffix('.0')}"


def _multiple(name: str, _: str, found: re.Match[str]) -> str:
    return f"{name} must be a multiple of {found[1]}"


def _range(name: str, _: str, __: re.Match[str]) -> str:
    return f"{name} is out of range"


def _encoding(name: str, _: str, found: re.Match[str]) -> str:
    return f"{name} must be {_ENCODINGS[found[1]]}"


def _type(name: str, _: str, found: re.Match[str]) -> str:
    kinds = " or ".join(_KINDS.get(kind, kind) for kind in found[1].split(" | "))
    return f"{name} must be {kinds}, {_received(found[0])}"


_ENCODINGS: Final = {
    "base64 encoded string": "base64",
    "RFC3339 encoded datetime": "an RFC 3339 time",
    "RFC3339 encoded date": "a date such as 2026-01-31",
    "UUID": "a UUID",
    "decimal string": "a decimal number",
}
_EXPLANATIONS: Final = (
    (re.compile(r"Object missing required field `(.+)`"), _missing),
    (re.compile(r"Object contains unknown field `(.*)`", re.DOTALL), _unknown),
    (re.compile(r"Expected `(\w+)` of length (?:(>=|<=) )?(\d+)(?:, got \d+)?"), _length),
    (re.compile(r"Expected `\w+` (>=|<=|>|<) (\S+)"), _limit),
    (re.compile(r"Expected `\w+` that's a multiple of (\S+)"), _multiple),
    (re.compile(r"Expected `([\w |]+)`, got `.*`"), _type),
    (re.compile(r"(?:Number|Integer value) out of range"), _range),
    (re.compile(rf"Invalid ({'|'.join(_ENCODINGS)})"), _encoding),
)


class _NotJson(Exception):
    """A constant that Python's reader accepts and JSON does not have."""


def _no_constant(word: str) -> Any:
    raise _NotJson(f"{word} is not a number in JSON; send null or a text instead")


def _located(text: str, fault: json.JSONDecodeError) -> str:
    place = f"line {fault.lineno}, column {fault.colno}"
    if "\n" not in text.strip():
        place = f"character {fault.colno}"
    if fault.pos >= len(text.rstrip()) or fault.msg.startswith("Unterminated string"):
        return f"it ends before it is complete ({place})"
    message = fault.msg.removesuffix(" at")
    return f"{message[:1].lower()}{message[1:]} ({place})"


def _plain(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    message = str(error)
    if message == "Input data was truncated":
        return "it ends before it is complete"
    if found := re.search(r"invalid opcode '\\x(\w\w)' \(byte (\d+)\)", message):
        return f"byte {found[2]} (0x{found[1]}) begins no value"
    if isinstance(error, msgspec.ValidationError):
        return misfit(error)
    message = message.rpartition("malformed: ")[2]
    return message.replace("(byte ", "(at byte ")


def _received(message: str) -> str:
    kind = message.rpartition("got `")[2].rstrip("`")
    return "not a fraction" if kind == "float" else f"not {_KINDS.get(kind, kind)}"


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in name[:64])


def _form(kind: Any, path: str) -> str:
    """Return the allowed values of the type at this path, or the description of its form."""
    info = None if kind is None else _type_at(msgspec.inspect.type_info(kind), path)
    bare = _bare(info)
    if isinstance(bare, msgspec.inspect.LiteralType):
        return " or ".join(_json_text(value) for value in bare.values)
    if isinstance(info, msgspec.inspect.Metadata) and info.extra_json_schema:
        return str(info.extra_json_schema["description"])
    return "one of the values that are allowed here"


def _json_text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _type_at(info: Any, path: str) -> Any:
    """Return the type of a member, by msgspec's path to it; None if there is none."""
    for name in filter(None, _INDEX.sub(".[]", path).split(".")):
        members = (_member(branch, name) for branch in _branches(info))
        info = next((member for member in members if member is not None), None)
    branches = (b for b in _branches(info) if not isinstance(b, msgspec.inspect.NoneType))
    return next(branches, None)


def _bare(info: Any) -> Any:
    """Return the type without its title, description and examples."""
    return info.type if isinstance(info, msgspec.inspect.Metadata) else info


def _branches(info: Any) -> tuple[Any, ...]:
    bare = _bare(info)
    return tuple(bare.types) if isinstance(bare, msgspec.inspect.UnionType) else (info,)


def _member(info: Any, name: str) -> Any:
    info = _bare(info)
    if isinstance(info, msgspec.inspect.ListType):
        return info.item_type if name == "[]" else None
    if not isinstance(info, msgspec.inspect.StructType):
        return None
    return next((field.type for field in info.fields if field.encode_name == name), None)
