"""The fast path: accepts, at the least cost, rows in which check_entry would find no fault.

It also follows the links from row to row: the hashes that a link may name, and which of two
rows at one seq is the wrong one.
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
"""Hashes kept for one seq; more than one only if rows there have faults."""

Link = str | tuple[bytes, ...] | None
"""The expected ``previous_hash`` of the next row: one hash as hex, None for the first
entry, any of several hashes after a row with a fault, or UNKNOWN."""
UNKNOWN: Final = ()


def candidates(link: Link) -> tuple[bytes, ...]:
    """The hashes of a link, in the form that check_entry takes."""
    if link is None:
        return (b"",)
    return (bytes.fromhex(link),) if isinstance(link, str) else link


def links_from(entry: StoredEntry, faults: list[TrailFault]) -> tuple[bytes, ...]:
    """The hashes that the entry after this row may name as its ``previous_hash``.

    If leaf and stored hash differ, one of them was altered here, and the
    next entry has no fault in either case. A row that was moved here from another seq
    says nothing about the entry that belongs here.
    """
    kinds = {fault.kind for fault in faults}
    if "seq_mismatch" in kinds:
        return (entry.entry_hash,) if "hash_mismatch" in kinds else UNKNOWN
    hashes = (entry.entry_hash, entry_hash(entry.leaf))
    return tuple(dict.fromkeys(value for value in hashes if len(value) == HASH_BYTES))


def link_of(leaf: bytes | None) -> Link:
    """The ``previous_hash`` of a leaf that is known to be right."""
    return decode_leaf(leaf).previous_hash if leaf else UNKNOWN


def time_of(leaf: bytes | None) -> str | None:
    try:
        return decode_leaf(leaf).anchored_at if leaf else None
    except MalformedLeaf:
        return None


def as_second(entry: StoredEntry, faults: list[TrailFault], right_leaf: bytes) -> list[TrailFault]:
    """The faults of a row at a seq that another, right row has."""
    if any(fault.kind == "seq_mismatch" for fault in faults):
        return faults  # it was moved here from its own seq, where it is missing
    if entry.leaf == right_leaf:
        second = TrailFault(entry.seq, "duplicate_seq", "the trail has this entry more than once")
    else:
        second = TrailFault(entry.seq, "inserted", "this row is not the entry of its seq")
    return [second, *faults]


MAX_CACHED: Final = 20_000
"""Search tags, and times as text, that are cached for later rows."""
FIXED_BYTES: Final = FIXED.size
LENGTH_BYTES: Final = LENGTH.size
NOT_RIGHT: Final = (
    struct.error,
    KeyError,
    msgspec.MsgspecError,
    UnicodeError,
    RecursionError,
    MalformedLeaf,
)
"""Errors that the fast path meets in a row cut off, unparsable or signed with an unknown key."""
# Names of a module are read faster than attributes.
unpack_fixed = FIXED.unpack_from
unpack_length = LENGTH.unpack_from
decode = msgspec.json.Decoder(Leaf).decode
encode_into = encode_leaf_into


class _Tags(dict[str | None, int]):
    """A cache of the search tags of actors and subjects."""

    def __missing__(self, value: str | None) -> int:
        if len(self) >= MAX_CACHED:
            self.clear()
        tag = self[value] = search_tag(value)
        return tag


class _Times(dict[int, str | None]):
    """A cache of PostgreSQL's times in the text form of leaves; None for a time without that form."""

    def __missing__(self, pg_us: int) -> str | None:
        if len(self) >= MAX_CACHED:
            self.clear()
        time_us = pg_us + PG_EPOCH_US
        text = self[pg_us] = format_time(time_us) if 0 <= time_us <= MAX_TIME_US else None
        return text


class FirstWrongRow(NamedTuple):
    """The position of the first wrong or incomplete row, and the seq and link expected there.

    ``last_leaf`` is the leaf of the last right row, or None.
    """

    position: int
    expected: int
    link: Link
    last_leaf: bytes | None


class RightRows:
    """Finds the right rows of one org's trail."""

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
        """Pass over right rows, from seq ``expected`` on; the first must link to ``link``.

        ``keep`` is called with the leaf hash of each.

        The speed of verification is the speed of this loop, so it is one piece: it
        calls little, and one expression decides that a row is right. It has every condition
        of check_entry, including the rules of decode_leaf.
        """
        prefix, org, signers = self._prefix, self._org, self._signers
        tags, times = self._tags, self._times
        last_leaf: bytes | None = None
        end, row_end = len(buffer), position
        leaf_data = digest = b""
        canonical = bytearray()  # reused: each leaf is encoded into it
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
            except NOT_RIGHT:
                right = False
            if not right:
                return FirstWrongRow(position, expected, link, last_leaf)
            keep(digest)
            last_leaf = leaf_data
            link = digest.hex()
            expected += 1
            position = row_end
