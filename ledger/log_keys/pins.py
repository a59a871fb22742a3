"""Pins: digests of a key history, obtained once through a trusted channel.

``{"origin": "…", "pins": [{"position": 0, "sha256": "<hex>"}, …]}``. One pin is
enough: its hash covers the earlier keys, and its key signs the later ones.
Several pins also permit checking older, shorter histories.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from ledger.errors import ForeignHistory, HistoryBeforePins, KeyHistoryError
from ledger.log_keys.statement import check_base_origin

PINS_MAX: Final = 100
PINS_BYTES_MAX: Final = 65_536
_DIGEST = re.compile(r"[0-9a-f]{64}")


class _Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    position: int
    sha256: str


class _PinsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    origin: str
    pins: list[_Pin]


class KeyPins:
    """Digests of key statements by position. Raises KeyHistoryError for invalid pins."""

    __slots__ = ("by_position", "origin")

    def __init__(self, origin: str, by_position: Mapping[int, str]) -> None:
        if not 1 <= len(by_position) <= PINS_MAX:
            raise KeyHistoryError(
                f"a pins document has 1 to {PINS_MAX} pins, not {len(by_position)}"
            )
        for position, digest in by_position.items():
            if not 0 <= position < PINS_MAX or not _DIGEST.fullmatch(digest):
                raise KeyHistoryError(
                    f"the pin at position {position} is not valid: the position must be 0 to "
                    f"{PINS_MAX - 1}, the digest 64 lower-case hex digits"
                )
        self.origin = check_base_origin(origin)
        self.by_position = dict(sorted(by_position.items()))

    @classmethod
    def parse(cls, data: bytes) -> KeyPins:
        """Parse a pins document. Raises KeyHistoryError."""
        if len(data) > PINS_BYTES_MAX:
            raise KeyHistoryError(f"a pins document has at most {PINS_BYTES_MAX} bytes")
        try:
            file = msgspec.json.decode(data, type=_PinsFile)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise KeyHistoryError(
                "the pins can't be read; they must be JSON of this form: "
                '{"origin": "…", "pins": [{"position": 0, "sha256": "<hex>"}]}'
            ) from None
        by_position = {pin.position: pin.sha256 for pin in file.pins}
        if len(by_position) != len(file.pins):
            raise KeyHistoryError(
                "the pins document pins one position twice; remove one of the pins"
            )
        return cls(file.origin, by_position)

    def document(self) -> bytes:
        """Return the pins as the document that :meth:`parse` reads, on one line."""
        pins = [_Pin(position, digest) for position, digest in self.by_position.items()]
        return msgspec.json.encode(_PinsFile(self.origin, pins))

    def check(self, origin: str, digests: Sequence[str]) -> None:
        """Compare a verified history's origin and statement digests with the pins.

        Raises ForeignHistory if one differs, HistoryBeforePins if no key is pinned.
        """
        if origin != self.origin:
            raise ForeignHistory(
                f"the keys belong to the log {origin!r}, but the pins to {self.origin!r}"
            )
        within = {p: digest for p, digest in self.by_position.items() if p < len(digests)}
        if not within:
            raise HistoryBeforePins(
                f"none of the {len(digests)} keys of {origin!r} is pinned: get a history that "
                f"reaches key number {min(self.by_position)}, or pins of these keys"
            )
        for position, digest in within.items():
            if digests[position] != digest:
                raise ForeignHistory(f"key number {position} of {origin!r} is not the pinned key")
