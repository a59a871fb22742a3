"""Packs entries into blocks, and reads them back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import accumulate, chain, islice
from typing import Final, NamedTuple

from ledger.blocks.frames import store
from ledger.blocks.layout import (
    BLOCK_BYTES,
    BLOCK_ENTRIES,
    Layout,
    frames_of,
    pack_ends,
    read_ends,
)
from ledger.chain import StoredEntry
from ledger.entry import HASH_BYTES

TAG_BYTES: Final = 3
"""Bytes of each of an entry's two search tags."""
SMALL_PAYLOAD: Final = 1 << 10
"""A payload of fewer bytes that is alone in its block is not compressed: it gains little."""
_TAG_MASK: Final = (1 << 8 * TAG_BYTES) - 1
_LAST_BITS: Final = BLOCK_ENTRIES - 1
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_MONTH_DROPPED: Final = b'"event_type":"quire.partition_dropped"'
SYSTEM_ORG: Final = "system"
"""The org in whose trail the drop of a month is recorded."""
_OF_SYSTEM: Final = b'"org":"%s"' % SYSTEM_ORG.encode()


class Block(NamedTuple):
    """One stored block, columns in table order."""

    org_id: int
    last_seq: int
    anchored_at: datetime
    first_seq: int
    last_hash: bytes
    raw_bytes: int
    tags: bytes
    ends: bytes
    leaves: bytes
    payloads: bytes

    @property
    def entry_count(self) -> int:
        """The number of its entries, as its seqs say."""
        return self.last_seq - self.first_seq + 1

    def layout(self, needed: Sequence[int] | None = None) -> Layout:
        """Return where its entries are, those at ``needed`` positions or all. Raises BlockDamaged."""
        return read_ends(self.ends, self.entry_count, needed)


def cut(entries: Iterable[StoredEntry]) -> Iterator[list[StoredEntry]]:
    """Cut entries into those of each block.

    The borders depend on nothing but the entries: a block ends before a seq that is a multiple
    of BLOCK_ENTRIES, before the entry with which it would exceed BLOCK_BYTES, before another org,
    time or a gap, and on both sides of an entry that stands alone.
    """
    rest = iter(entries)
    for first in rest:
        upto_border = [first, *islice(rest, _LAST_BITS - (first.seq & _LAST_BITS))]
        if not _is_one_block(upto_border):
            yield from _cut_one_by_one(chain(upto_border, rest))
            return
        yield upto_border


def _is_one_block(entries: Sequence[StoredEntry]) -> bool:
    """Return whether entries that cross no multiple of BLOCK_ENTRIES are one block, at less cost."""
    count = len(entries)
    orgs, seqs, times, _, _, _, _, leaves, payloads = zip(*entries, strict=True)
    return (
        seqs == tuple(range(seqs[0], seqs[0] + count))
        and orgs.count(orgs[0]) == times.count(times[0]) == count
        and HASH_BYTES * count + sum(map(len, leaves)) + sum(map(len, payloads)) <= BLOCK_BYTES
        and (count == 1 or _MONTH_DROPPED not in b"\n".join(leaves))
    )


def _cut_one_by_one(entries: Iterable[StoredEntry]) -> Iterator[list[StoredEntry]]:
    block: list[StoredEntry] = []
    size, follows = 0, (-1, -1, _NEVER)
    for entry in entries:
        org_id, seq, at, _, _, _, _, leaf, payload = entry
        size += HASH_BYTES + len(leaf) + len(payload)
        alone = _MONTH_DROPPED in leaf and _OF_SYSTEM in leaf  # stands_alone, at less cost
        if (org_id, seq, at) != follows or size > BLOCK_BYTES or alone or not seq & _LAST_BITS:
            if block:
                yield block
            block, size = [], HASH_BYTES + len(leaf) + len(payload)
        block.append(entry)
        follows = (-1, -1, _NEVER) if alone else (org_id, seq + 1, at)
    if block:
        yield block


def stands_alone(leaf: bytes) -> bool:
    """Return whether a leaf's entry records that a month was dropped, and so has a raw block to itself.

    A function of the database reads it, which can't inflate (migrations/0007_retention.sql). A
    leaf is canonical JSON, in which these bytes can't occur inside a string.
    """
    return _MONTH_DROPPED in leaf and _OF_SYSTEM in leaf


def pack(entries: Sequence[StoredEntry], *, raw: bool = False) -> Block:
    """Return the block of some entries, which :func:`cut` has cut; ``raw``: do not compress."""
    first, last = entries[0], entries[-1]
    if first is last:
        return _pack_one(first, raw=raw)
    records = [entry.signature + entry.leaf for entry in entries]
    payloads = [entry.payload for entry in entries]
    record_ends, payload_ends = _ends(records), _ends(payloads)
    stored_records, stored_payloads = (
        [
            content if raw else store(content)
            for first_, last_ in frames_of(ends)
            for content in [b"".join(pieces[first_ : last_ + 1])]
        ]
        for pieces, ends in ((records, record_ends), (payloads, payload_ends))
    )
    return Block(
        first.org_id,
        last.seq,
        last.anchored_at,
        first.seq,
        last.entry_hash,
        record_ends[-1] + payload_ends[-1],
        b"".join(map(_tags, entries)),
        pack_ends(record_ends, payload_ends, _ends(stored_records), _ends(stored_payloads)),
        b"".join(stored_records),
        b"".join(stored_payloads),
    )


def _pack_one(entry: StoredEntry, *, raw: bool) -> Block:
    """Return the block of one entry, at less cost."""
    record, payload = entry.signature + entry.leaf, entry.payload
    stored = record if raw else store(record)
    stored_payload = payload if raw or len(payload) < SMALL_PAYLOAD else store(payload)
    return Block(
        entry.org_id,
        entry.seq,
        entry.anchored_at,
        entry.seq,
        entry.entry_hash,
        len(record) + len(payload),
        _tags(entry),
        pack_ends((len(record),), (len(payload),), (len(stored),), (len(stored_payload),)),
        stored,
        stored_payload,
    )


def _ends(pieces: Sequence[bytes]) -> list[int]:
    return list(accumulate(map(len, pieces)))


def short_tag(tag: int) -> int:
    """Return the 24 bits of a search tag that a block keeps; 0 only for 0."""
    return tag & _TAG_MASK or (1 if tag else 0)


def _tags(entry: StoredEntry) -> bytes:
    both = short_tag(entry.actor_tag) << 24 | short_tag(entry.subject_tag)
    return both.to_bytes(2 * TAG_BYTES, "big")
