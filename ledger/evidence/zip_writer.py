"""A zip written as a stream: members go out whole, one after the other."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from hashlib import sha256

from blake3 import blake3

from ledger.errors import EvidenceError
from ledger.evidence.format import MANIFEST_BYTES_MAX, MEMBERS_MAX, Member
from ledger.evidence.zip_layout import Directory, central_header, end, local_header

Write = Callable[[bytes], object]


class ZipWriter:
    """Writes members in the one form of :mod:`ledger.evidence.zip_layout`.

    It keeps the central directory in memory, some 80 bytes a member.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._at = 0
        self._directory: list[bytes] = []

    def add(self, name: str, data: bytes) -> Member:
        """Write one member. Raises EvidenceError for one too many or too large."""
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
        """Write the central directory; nothing may follow. Returns the bytes of the whole file."""
        directory = b"".join(self._directory)
        tail = directory + end(Directory(len(self._directory), len(directory), self._at))
        self._write(tail)
        return self._at + len(tail)
