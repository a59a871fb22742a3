"""The fast path: it passes rows in which check_entry would find nothing, at the least cost.

It follows the links from row to row: the hashes that a link may name, and which of two
rows at one seq is the intruder.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec
from blake3 import blake3

from ledger.chain import StoredEntry, TrailFault
from ledger.core.verification.rows.rows import BIGINT_BYTES, FIXED, LENGTH, prefix_of
from ledger.entry import (
    HASH_BYTES,
    MAX_LEAF_BYTES,
    MAX_TIME_US,
    Leaf,
    decode_leaf,
    encode_leaf_into,
    entry_hash,
    format_time,
    search_tag,
)
from ledger.errors import MalformedLeaf
from ledger.keys import SigningKeyring
from ledger.storage.copy_format import PG_EPOCH_US

MAX_LINKS: Final = 8
"""Hashes remembered at one seq; more than one only where rows there are at fault."""

Link = str | tuple[bytes, ...] | None
"""What the next row's ``previous_hash`` should be: one hash as hex, None for the first
entry, any of several hashes after a row at fault, or no hash at all where it is not known."""
UNKNOWN: Final = ()


def candidates(link: Link) -> tuple[bytes, ...]:
    """The hashes a link stands for, as check_entry takes them."""
    if link is None:
        return (b"",)
    return (bytes.fromhex(link),) if isinstance(link, str) else link


def links_from(entry: StoredEntry, faults: list[TrailFault]) -> tuple[bytes, ...]:
    """What the entry after this row may rightly name as the hash before it.

    Where leaf and stored hash differ, one of the two was altered here, and the
    next entry must not be blamed whichever it was. A row that belongs elsewhere
    says nothing of what stood here.
    """
    kinds = {fault.kind for fault in faults}
    if "seq_mismatch" in kinds:
        return (entry.entry_hash,) if "hash_mismatch" in kinds else UNKNOWN
    hashes = (entry.entry_hash, entry_hash(entry.leaf))
    return tuple(dict.fromkeys(value for value in hashes if len(value) == HASH_BYTES))


def link_of(leaf: bytes | None) -> Link:
    """The ``previous_hash`` of a leaf known to be right."""
    return decode_leaf(leaf).previous_hash if leaf else UNKNOWN


def time_of(leaf: bytes | None) -> str | None:
    try:
        return decode_leaf(leaf).anchored_at if leaf else None
    except MalformedLeaf:
        return None


def as_second(entry: StoredEntry, faults: list[TrailFault], right_leaf: bytes) -> list[TrailFault]:
    """The faults of a row whose place another row holds."""
    if any(fault.kind == "seq_mismatch" for fault in faults):
        return faults  # moved here from where it is now missing
    if entry.leaf == right_leaf:
        second = TrailFault(entry.seq, "duplicate_seq", "the entry stands here more than once")
    else:
        second = TrailFault(entry.seq, "inserted", "a row that is not the entry of this seq")
    return [second, *faults]


MAX_CACHED: Final = 20_000
"""Search tags, and times as text, that are kept for the rows to come."""
FIXED_BYTES: Final = FIXED.size
LENGTH_BYTES: Final = LENGTH.size
NOT_PLAIN: Final = (
    struct.error,
    KeyError,
    msgspec.MsgspecError,
    UnicodeError,
    RecursionError,
    MalformedLeaf,
)
"""What the fast path meets in a row cut off, unparsable or signed with an unknown key."""
# A module's names are faster to reach than attributes.
unpack_fixed = FIXED.unpack_from
unpack_length = LENGTH.unpack_from
decode = msgspec.json.Decoder(Leaf).decode
encode_into = encode_leaf_into


class _Tags(dict[str | None, int]):
    """Search tags of actors and subjects, computed where they are missing."""

    def __missing__(self, value: str | None) -> int:
        if len(self) >= MAX_CACHED:
            self.clear()
        tag = self[value] = search_tag(value)
        return tag


class _Times(dict[int, str | None]):
    """PostgreSQL's times as the leaf writes them; None for a time it can't write."""

    def __missing__(self, pg_us: int) -> str | None:
        if len(self) >= MAX_CACHED:
            self.clear()
        time_us = pg_us + PG_EPOCH_US
        text = self[pg_us] = format_time(time_us) if 0 <= time_us <= MAX_TIME_US else None
        return text


class FirstWrongRow(NamedTuple):
    """Where the first row begins that is not right or not whole, and what it should be.

    ``last_leaf`` is the leaf of the last right row, None where there was none.
    """

    position: int
    expected: int
    link: Link
    last_leaf: bytes | None


class RightRows:
    """Tells the right rows of one org's trail."""

    def __init__(self, org_id: int, org: str, keyring: SigningKeyring) -> None:
        self._prefix = prefix_of(org_id)
        self._org = org
        self._signers = {key.key_id: key.sign for key in keyring.keys()}
        self._tags = _Tags()
        self._times = _Times()

    def pass_over(
        self,
        buffer: bytes,
        position: int,
        expected: int,
        link: Link,
        keep: Callable[[bytes], object],
    ) -> FirstWrongRow:
        """Go past rows that are right, from seq ``expected`` on, the first after ``link``.

        ``keep`` is given the leaf hash of each.

        The speed of verification is the speed of this loop, so it is one piece: it
        calls little, and one expression says that a row is right. Every condition
        of check_entry is in it, the rules of decode_leaf included.
        """
        prefix, org, signers = self._prefix, self._org, self._signers
        tags, times = self._tags, self._times
        last_leaf: bytes | None = None
        end, row_end = len(buffer), position
        leaf_data = digest = b""
        canonical = bytearray()  # made once: the leaf is encoded anew into it each time
        while True:
            try:
                (
                    row_prefix, seq, n3, time, n4, actor_tag, n5, subject_tag,
                    n6, stored_hash, n7, signature, leaf_bytes,
                ) = unpack_fixed(buffer, position)  # fmt: skip
                leaf_at = position + FIXED_BYTES
                leaf_end = leaf_at + leaf_bytes
                leaf_data = buffer[leaf_at:leaf_end]
                payload_at = leaf_end + LENGTH_BYTES
                (payload_bytes,) = unpack_length(buffer, leaf_end)
                row_end = payload_at + payload_bytes
                digest = sha256(b"\x00" + leaf_data).digest()
                leaf = decode(leaf_data)
                payload = leaf.payload
                encode_into(leaf, canonical)
                right: bool = (
                    seq == expected
                    and row_end <= end
                    and row_prefix == prefix
                    and n3 == n4 == n5 == BIGINT_BYTES
                    and n6 == n7 == HASH_BYTES
                    and digest == stored_hash
                    and signers[leaf.key](digest) == signature
                    and leaf.previous_hash == link
                    and leaf.seq == seq
                    and leaf.org == org
                    and leaf.anchored_at == times[time]
                    and tags[leaf.actor] == actor_tag
                    and tags[leaf.subject] == subject_tag
                    and payload.size == payload_bytes
                    and payload.blake3 == blake3(buffer[payload_at:row_end]).digest().hex()
                    and leaf_bytes <= MAX_LEAF_BYTES
                    and canonical == leaf_data
                    and (
                        not (0x5C in leaf_data or 0x7F in leaf_data or 0xC2 in leaf_data)
                        or decode_leaf(leaf_data) is not None
                    )
                )
            except NOT_PLAIN:
                right = False
            if not right:
                return FirstWrongRow(position, expected, link, last_leaf)
            keep(digest)
            last_leaf = leaf_data
            link = digest.hex()
            expected += 1
            position = row_end
