"""What one row says of the next: the hashes a link may name, and which of two rows is the intruder."""

from __future__ import annotations

from typing import Final

from ledger.chain import Entry, Fault
from ledger.entry import HASH_BYTES, decode_leaf, entry_hash
from ledger.errors import MalformedLeaf

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


def links_from(entry: Entry, faults: list[Fault]) -> tuple[bytes, ...]:
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


def as_second(entry: Entry, faults: list[Fault], right_leaf: bytes) -> list[Fault]:
    """The faults of a row whose place another row holds."""
    if any(fault.kind == "seq_mismatch" for fault in faults):
        return faults  # moved here from where it is now missing
    if entry.leaf == right_leaf:
        second = Fault(entry.seq, "duplicate_seq", "the entry stands here more than once")
    else:
        second = Fault(entry.seq, "inserted", "a row that is not the entry of this seq")
    return [second, *faults]
