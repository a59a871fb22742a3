"""The small text objects of an archive: rows as JSON lines under a digest, and ``org.json``.

The digest only reveals damage; it proves nothing about a row. Notes are signed, and an index
with its nonce leads from a note to a leaf of the anchor log, which is signed too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, TypeVar

import msgspec
from blake3 import blake3
from msgspec import Meta

from ledger.errors import ArchiveMismatch

ROWS_MAX: Final = 10_000
"""The most rows of one object."""
RECORDS_BYTES_MAX: Final = 64 << 20
ORG_BYTES_MAX: Final = 65_536
NOTE_BYTES_MAX: Final = 65_536
TOKEN_BYTES_MAX: Final = 262_144
LINE_BYTES_MAX: Final = 65_536
"""The most bytes of a witness's signature line."""
Row = TypeVar("Row", bound=msgspec.Struct)
_Number = Annotated[int, Meta(ge=0, le=10**16 - 1)]


class ArchivedCheckpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A checkpoint as it was signed: its note, its size, and the time of signing (POSIX µs)."""

    note: bytes
    signed_us: _Number
    size: _Number


class AnchoredAt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The anchor log's leaf at ``idx`` commits to the checkpoint of ``size`` under ``nonce``."""

    idx: _Number
    nonce: bytes
    size: _Number


class ArchivedOrg(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The description of the archived org. It holds no key: erasure must stay possible.

    ``name`` and ``log_public`` are as they were when the archive was last written.
    """

    created_us: _Number
    log_public: bool
    name: str
    org: str
    org_id: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    privacy: str
    v: int = 1

    def encode(self) -> bytes:
        """Encode the object, with its digest as a second line."""
        return encode_rows([self])

    @classmethod
    def decode(cls, data: bytes) -> ArchivedOrg:
        """Decode the object. Raises ArchiveMismatch."""
        (org,) = decode_rows(data, cls) or (None,)
        if org is None or org.v != 1:
            raise ArchiveMismatch(
                "it does not describe an org in a format that this version of Quire knows"
            )
        return org


class _Digest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    blake3: str


def encode_rows(rows: Iterable[msgspec.Struct]) -> bytes:
    """Encode rows as JSON, one per line, with their BLAKE3-256 digest in the last line."""
    body = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    return body + msgspec.json.encode(_Digest(blake3(body).hexdigest())) + b"\n"


def decode_rows(data: bytes, kind: type[Row]) -> list[Row]:
    """Decode the rows of an object. Raises ArchiveMismatch."""
    body, newline, digest = data.removesuffix(b"\n").rpartition(b"\n")
    body += newline
    if not data.endswith(b"\n") or digest != _digest_line(body):
        raise ArchiveMismatch("it is damaged: its digest does not match its rows")
    lines = body.split(b"\n")[:-1]
    if len(lines) > ROWS_MAX:
        raise ArchiveMismatch(f"it has more than {ROWS_MAX} rows")
    try:
        return [msgspec.json.decode(line, type=kind) for line in lines]
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ArchiveMismatch(f"a row can't be read: {error}") from None


def _digest_line(body: bytes) -> bytes:
    return msgspec.json.encode(_Digest(blake3(body).hexdigest()))
