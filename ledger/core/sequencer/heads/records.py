"""The format of the file of acknowledged heads, as pure functions.

A header, then one slot for each org, all of :data:`SLOT_BYTES`. A slot has two records, which are
written in turn: a record that a crash left half written never destroys the older one. The record
with the higher seq counts.
"""

from __future__ import annotations

from struct import Struct
from typing import Final
from zlib import crc32

from ledger.chain import EMPTY_SEQ, ChainHead
from ledger.entry import HASH_BYTES
from ledger.errors import FormatError

MAGIC: Final = b"quire acknowledged heads 1\n".ljust(32, b"\0")
SLOT_BYTES: Final = 128
RECORD_BYTES: Final = SLOT_BYTES // 2
FREE: Final = bytes(SLOT_BYTES)
"""A slot that no org has."""
NO_HASH: Final = bytes(HASH_BYTES)
_HALVES: Final = (slice(0, RECORD_BYTES), slice(RECORD_BYTES, SLOT_BYTES))
_RECORD: Final = Struct("<qqq32s")
"""Org id, seq, time in µs, entry hash; a CRC-32 and padding follow."""
_CHECKSUM_BYTES: Final = RECORD_BYTES - _RECORD.size
_BLANK: Final = bytes(RECORD_BYTES)


class HeadsDamaged(FormatError):
    """The bytes of the file are not those that Quire wrote."""


class UnfinishedSlot(FormatError):
    """A slot whose first write did not end: no org was acknowledged by it."""


def pack_header(identity: bytes) -> bytes:
    """Return the header of a file that belongs to the database with this identity (32 bytes)."""
    return _checked(MAGIC + identity, SLOT_BYTES)


def unpack_header(header: bytes) -> bytes:
    """Return the identity of the database that a file belongs to. Raises HeadsDamaged."""
    identity = header[len(MAGIC) : len(MAGIC) + HASH_BYTES]
    if header != pack_header(identity):
        raise HeadsDamaged("its header is damaged")
    return identity


def pack_record(org_id: int, head: ChainHead) -> bytes:
    """Return the record of an org's head."""
    fields = _RECORD.pack(org_id, head.seq, head.anchored_us, head.entry_hash or NO_HASH)
    return _checked(fields, RECORD_BYTES)


def unpack_slot(slot: bytes) -> tuple[int, ChainHead, int]:
    """Return the org, its head, and the number (0 or 1) of the record to write next.

    Raises UnfinishedSlot, and HeadsDamaged for a slot without an intact record.
    """
    records = [_unpack(slot[half]) for half in _HALVES]
    intact = [(record[1].seq, number) for number, record in enumerate(records) if record]
    if not intact:
        if slot[_HALVES[1]] == _BLANK:
            raise UnfinishedSlot("the first write of this slot did not end")
        raise HeadsDamaged("both records of an org are damaged")
    _, newest = max(intact)
    record = records[newest]
    assert record is not None, "only intact records are compared"
    other = records[1 - newest]
    if other is not None and other[0] != record[0]:
        raise HeadsDamaged("one slot has the records of two orgs")
    return *record, 1 - newest


def record_place(slot_at: int, number: int) -> slice:
    """Return the place of a slot's record in the file."""
    start = slot_at + number * RECORD_BYTES
    return slice(start, start + RECORD_BYTES)


def _unpack(record: bytes) -> tuple[int, ChainHead] | None:
    """Return the org and its head; None for a record that is not intact."""
    if record != _checked(record[: _RECORD.size], RECORD_BYTES):
        return None
    org_id, seq, anchored_us, entry_hash = _RECORD.unpack_from(record)
    if seq <= EMPTY_SEQ:
        return org_id, ChainHead(EMPTY_SEQ, b"", 0)
    return org_id, ChainHead(seq, entry_hash, anchored_us)


def _checked(fields: bytes, size: int) -> bytes:
    """Return fields with their checksum, padded to a size. Blank fields have no valid checksum."""
    checksum = ~crc32(fields) & 0xFFFF_FFFF
    return fields + checksum.to_bytes(size - len(fields), "little")
