"""A minimal reader of DER (ITU-T X.690), sufficient to find the parts of a token.

It reads definite lengths and one-byte tags only; RFC 3161 and CMS use nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.errors import TimestampError

SEQUENCE: Final = 0x30
SET: Final = 0x31
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
PARTS_MAX: Final = 64
"""Limit of the elements directly inside one element; a token's longest list is certificates."""
_LENGTH_BYTES_MAX: Final = 4
_LONG_FORM: Final = 0x80


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its tag, and the offsets of the element and its content in ``source``."""

    source: bytes
    tag: int
    start: int
    inside: int
    end: int

    @property
    def encoded(self) -> bytes:
        """The element with its tag and length."""
        return self.source[self.start : self.end]

    @property
    def content(self) -> bytes:
        return self.source[self.inside : self.end]

    def parts(self) -> list[Element]:
        """Return the elements inside. Raises TimestampError for other content, or too many."""
        found: list[Element] = []
        at = self.inside
        while at < self.end:
            if len(found) == PARTS_MAX:
                raise TimestampError(f"an element of the token has more than {PARTS_MAX} parts")
            element = read(self.source, at, self.end)
            found.append(element)
            at = element.end
        return found


def read(source: bytes, start: int, limit: int) -> Element:
    """Read the element at ``start``, which must end by ``limit``. Raises TimestampError."""
    if start + 2 > limit or source[start] & 0x1F == 0x1F:
        raise _malformed(start)
    length, inside = source[start + 1], start + 2
    if length >= _LONG_FORM:
        count = length - _LONG_FORM
        inside += count
        if not 0 < count <= _LENGTH_BYTES_MAX or inside > limit:
            raise _malformed(start)
        length = int.from_bytes(source[start + 2 : inside])
    if inside + length > limit:
        raise _malformed(start)
    return Element(source, source[start], start, inside, inside + length)


def whole(source: bytes) -> Element:
    """Read bytes that are exactly one element. Raises TimestampError."""
    element = read(source, 0, len(source))
    if element.end != len(source):
        raise TimestampError("bytes follow the end of the token or response")
    return element


def wrapped(tag: int, content: bytes) -> bytes:
    """Encode an element with this content."""
    size = len(content)
    if size < _LONG_FORM:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, _LONG_FORM | len(length))) + length + content


def _malformed(at: int) -> TimestampError:
    return TimestampError(f"the token or response is damaged: byte {at} begins no DER element")
