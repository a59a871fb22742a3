"""Messages between a verification and its worker processes, over the workers' stdin and stdout.

MessagePack behind a 32-bit big-endian length. The keyring and the database URL
travel here and nowhere else: not in arguments, the environment or files.
"""

from __future__ import annotations

import asyncio
from struct import Struct
from typing import Final

import msgspec

from ledger.checkpoint import SignedHead
from ledger.core.verification.work.archive_at import ArchiveAt
from ledger.core.verification.work.segment import Segment, SegmentResult
from ledger.core.verification.work.trust import LogTrust, Trust
from ledger.keys import SigningKey, SigningKeyring

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
_LENGTH = Struct(">I")
_encode = msgspec.msgpack.Encoder().encode


class LogExtent(msgspec.Struct, frozen=True):
    """How far a log reaches: its largest head that is stored and rightly signed, if any.

    ``trust`` knows of others, which may be larger.
    """

    head: SignedHead
    trust: LogTrust

    @property
    def signed(self) -> int:
        """The size that its tiles must cover; 0 where nothing is signed."""
        return self.head.size

    @property
    def needed(self) -> int:
        """The size of the largest head that is known of, stored or remembered."""
        return max(self.head.size, *(head.size for head in self.trust.remembered), 0)


class Signed(msgspec.Struct, frozen=True):
    """What of the signed logs is known before the work begins."""

    trust: Trust
    trail: LogExtent
    anchors: LogExtent


class Order(msgspec.Struct, frozen=True, tag="order"):
    """What a worker needs once: where the trail is and what verifies it."""

    database_url: str
    snapshot: str
    org_id: int
    org: str
    keys: list[tuple[str, bytes]]
    active: str
    signed: Signed | None = None
    archive: ArchiveAt | None = None
    """Where the rows are that left the database, if any did."""

    def __repr__(self) -> str:
        return f"Order(org_id={self.org_id})"  # the rest holds secrets

    def keyring(self) -> SigningKeyring:
        """The keyring of the order."""
        keys = [SigningKey(key_id, secret) for key_id, secret in self.keys]
        return SigningKeyring(keys, [self.active])


class Advance(msgspec.Struct, frozen=True, tag="advance"):
    """So many rows more were read of the segment under way."""

    rows: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker is connected under the snapshot."""


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """The worker can't go on, and why."""

    message: str


ToWorker = Order | Segment
FromWorker = Ready | Advance | SegmentResult | Failure
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode


def pack(message: ToWorker | FromWorker) -> bytes:
    """One message as it travels."""
    body = _encode(message)
    return _LENGTH.pack(len(body)) + body


async def receive(stream: asyncio.StreamReader) -> bytes | None:
    """The body of the next message, or None where the other side is gone."""
    try:
        (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        if length > MAX_MESSAGE_BYTES:
            return None
        return await stream.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
