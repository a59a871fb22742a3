"""Which blocks hold the entries of a trail after a change, as pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

from ledger.chain import StoredEntry
from tests.support.block_format import (
    MAX_BYTES,
    MAX_ENTRIES,
    MAX_PAYLOAD_BYTES,
    MAX_RECORD_BYTES,
    SIGNATURE_BYTES,
    named_hash,
)

Group: TypeAlias = list[StoredEntry]
"""The entries of one block."""


def grouped(entries: Iterable[StoredEntry], exact: Collection[StoredEntry]) -> list[Group]:
    """Cut entries into those of each block, which are as long as they can be.

    An entry of ``exact`` ends its block unless the next leaf names its stored hash; any other
    takes the hash that the next leaf names.
    """
    groups: list[Group] = []
    for entry in entries:
        if groups and _fits(groups[-1], entry, exact):
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return groups


def changed_groups(
    block: Sequence[StoredEntry],
    old: Counter[StoredEntry],
    new: dict[tuple[object, ...], StoredEntry],
) -> list[Group]:
    """Return the groups of a block's entries after a change, and take from old and new.

    An entry of ``old`` is replaced by the one of ``new`` with its place, or else left out.
    """
    left: Group = []
    changed: set[StoredEntry] = set()
    for entry in block:
        if old[entry]:
            old[entry] -= 1
            if (replacement := new.pop(place_of(entry), None)) is not None:
                left.append(replacement)
                changed.add(replacement)
        else:
            left.append(entry)
    return grouped(left, changed)


def place_of(entry: StoredEntry) -> tuple[object, ...]:
    """What an entry keeps when it is changed inside its block."""
    return entry.org_id, entry.seq, entry.anchored_at


def content_of(entry: StoredEntry) -> StoredEntry:
    """Return the entry without its hash; a signature that is not 32 bytes long can't be told
    from the leaf behind it."""
    return entry._replace(entry_hash=b"", signature=b"", leaf=entry.signature + entry.leaf)


def check_exchange(
    was: Sequence[StoredEntry],
    now: Sequence[StoredEntry],
    old: Sequence[StoredEntry],
    new: Sequence[StoredEntry],
) -> None:
    """Check that of all entries of some blocks, exactly the old ones became the new ones."""
    left = Counter(was) - Counter(old)
    assert Counter(map(content_of, now)) == Counter(map(content_of, [*left.elements(), *new]))
    exact = {(content_of(entry), entry.entry_hash) for entry in now}
    assert all((content_of(entry), entry.entry_hash) in exact for entry in new)
    renamed = {(entry.org_id, entry.seq - 1, entry.anchored_at) for entry in new}
    lost = {place_of(entry) for entry in left - Counter(now)}
    assert lost <= renamed, f"other entries would change: {lost - renamed}"


def _fits(group: Group, entry: StoredEntry, exact: Collection[StoredEntry]) -> bool:
    last = group[-1]
    return (
        place_of(last) == (entry.org_id, entry.seq - 1, entry.anchored_at)
        and entry.seq % MAX_ENTRIES != 0
        and not _is_impossible(last)
        and not _is_impossible(entry)
        and sum(map(_size, group)) + _size(entry) <= MAX_BYTES
        and (last not in exact or last.entry_hash == named_hash(entry.leaf))
    )


def _is_impossible(entry: StoredEntry) -> bool:
    """Whether no block that can be read holds the entry: beside others it would cost them too."""
    record = len(entry.signature) + len(entry.leaf)
    return (
        not SIGNATURE_BYTES <= record <= MAX_RECORD_BYTES or len(entry.payload) > MAX_PAYLOAD_BYTES
    )


def _size(entry: StoredEntry) -> int:
    return len(entry.signature) + len(entry.leaf) + len(entry.payload)
