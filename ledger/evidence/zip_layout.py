"""The one form of zip that a bundle has (PKWARE APPNOTE 6.3.9, sections 4.3 and 4.4).

Members are stored uncompressed, one after another from byte 0; everything that a zip can vary
(time, mode, flags, extra fields, comments) has one value. So the same members make the same
bytes, and a reader that compares headers whole sees every byte of the file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from hashlib import sha256
from typing import Final, NamedTuple

from blake3 import blake3

from ledger.errors import EvidenceError
from ledger.evidence.format import MANIFEST_BYTES_MAX, MEMBERS_MAX, Member

LIMIT_16: Final = 0xFFFF
LIMIT_32: Final = 0xFFFFFFFF
_VERSION: Final = 10
"""1.0: stored files, nothing else."""
_VERSION_ZIP64: Final = 45
_MADE_BY_UNIX: Final = 3 << 8 | 45
_FLAGS: Final = 0
_STORED: Final = 0
_TIME, _DATE = 0, 1 << 5 | 1
"""1980-01-01T00:00:00, the earliest MS-DOS time."""
_MODE: Final = 0o100644 << 16

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_END64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR: Final = struct.Struct("<4sIQI")
_EXTRA64: Final = struct.Struct("<2HQ")
LOCAL_BYTES: Final = _LOCAL.size
CENTRAL_BYTES: Final = _CENTRAL.size
END_BYTES: Final = _END.size
EXTRA64_BYTES: Final = _EXTRA64.size
END64_BYTES: Final = _END64.size + _LOCATOR.size


class ZipDirectory(NamedTuple):
    """The central directory: its number of members, its size and its offset in bytes."""

    members: int
    size: int
    offset: int

    @property
    def needs_64(self) -> bool:
        return self.members >= LIMIT_16 or max(self.size, self.offset) >= LIMIT_32


def local_header(name: bytes, crc: int, size: int) -> bytes:
    """Return the header before a member's bytes. ``size`` is below 4 GiB."""
    fields = _VERSION, _FLAGS, _STORED, _TIME, _DATE, crc, size, size, len(name), 0
    return _LOCAL.pack(b"PK\x03\x04", *fields) + name


def central_header(name: bytes, crc: int, size: int, offset: int) -> bytes:
    """Return a member's entry in the central directory; its local header is at ``offset``."""
    large = offset >= LIMIT_32
    extra = _EXTRA64.pack(1, 8, offset) if large else b""
    version = _VERSION_ZIP64 if large else _VERSION
    common = _FLAGS, _STORED, _TIME, _DATE, crc, size, size, len(name), len(extra)
    rest = 0, 0, 0, _MODE, min(offset, LIMIT_32)
    return _CENTRAL.pack(b"PK\x01\x02", _MADE_BY_UNIX, version, *common, *rest) + name + extra


def end(directory: ZipDirectory) -> bytes:
    """Return the end of the file after the central directory; zip64 only where it is needed."""
    count, size, offset = directory
    parts = []
    if directory.needs_64:
        made = _MADE_BY_UNIX, _VERSION_ZIP64
        parts = [
            _END64.pack(b"PK\x06\x06", _END64.size - 12, *made, 0, 0, count, count, size, offset),
            _LOCATOR.pack(b"PK\x06\x07", 0, offset + size, 1),
        ]
    count, size, offset = min(count, LIMIT_16), min(size, LIMIT_32), min(offset, LIMIT_32)
    return b"".join((*parts, _END.pack(b"PK\x05\x06", 0, 0, count, count, size, offset, 0)))


def parse_central(data: bytes, at: int) -> tuple[bytes, int, int] | None:
    """Return name, CRC-32 and size of the header at ``at``; None where the bytes end inside it.

    The caller compares the other fields with :func:`central_header`.
    """
    if at + CENTRAL_BYTES > len(data):
        return None
    fields = _CENTRAL.unpack_from(data, at)
    crc, size, name_bytes = fields[7], fields[9], fields[10]
    name = data[at + CENTRAL_BYTES : at + CENTRAL_BYTES + name_bytes]
    return (name, crc, size) if len(name) == name_bytes else None


def parse_end(tail: bytes) -> ZipDirectory | None:
    """Parse the last bytes of a file; None unless they are exactly :func:`end` of the result."""
    if len(tail) < END_BYTES:
        return None
    found = _END.unpack_from(tail, len(tail) - END_BYTES)
    directory = ZipDirectory(found[4], found[5], found[6])
    if directory.needs_64:
        if len(tail) < END_BYTES + END64_BYTES:
            return None
        found = _END64.unpack_from(tail, len(tail) - END_BYTES - END64_BYTES)
        directory = ZipDirectory(found[7], found[8], found[9])
        if directory.offset + directory.size >= 1 << 63:
            return None
    return directory if tail.endswith(end(directory)) else None


Write = Callable[[bytes], object]


class ZipWriter:
    """Writes members in the one form of this module.

    The central directory is kept in memory: about 80 bytes per member.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._at = 0
        self._directory: list[bytes] = []

    def add(self, name: str, data: bytes) -> Member:
        """Write one member. Raises EvidenceError for too many members, or a too large one."""
        if len(self._directory) > MEMBERS_MAX:
            raise EvidenceError(
                f"a bundle has at most {MEMBERS_MAX} members; ask for fewer entries"
            )
        if len(data) > MANIFEST_BYTES_MAX:
            raise EvidenceError(f"{name} would have {len(data)} bytes; ask for fewer entries")
        encoded, crc, size = name.encode("ascii"), zlib.crc32(data), len(data)
        header = local_header(encoded, crc, size)
        self._directory.append(central_header(encoded, crc, size, self._at))
        self._write(header)
        self._write(data)
        self._at += len(header) + size
        return Member(blake3(data).hexdigest(), name, sha256(data).hexdigest(), size)

    def finish(self) -> int:
        """Write the central directory, which ends the file. Return the size of the whole file."""
        directory = b"".join(self._directory)
        tail = directory + end(ZipDirectory(len(self._directory), len(directory), self._at))
        self._write(tail)
        return self._at + len(tail)
