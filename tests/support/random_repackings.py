"""What an owner of the database may do to a block: decode it, change one thing, encode it again."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

from ledger.chain import StoredEntry
from tests.support.block_format import Row, decode, encode
from tests.support.changes import flipped


class Repacking(NamedTuple):
    """The blocks that replace one, and the seqs at which exactly a verification must find it."""

    what: str
    rows: list[Row]
    seqs: set[int]


def random_repacking(random: Random, row: Row) -> Repacking:
    """Choose a change of a block that is possible for it."""
    while True:
        change = random.choice(CHANGES)
        made = change(random, decode(row))
        if made is not None and made.rows != [row]:
            return made


Change = Callable[[Random, list[StoredEntry]], "Repacking | None"]


def _edited(what: str, edit: Callable[[Random, StoredEntry], StoredEntry]) -> Change:
    """Another value for one entry's field; inside a block its hash is what the next leaf names."""

    def change(random: Random, entries: list[StoredEntry]) -> Repacking | None:
        at = random.randrange(len(entries))
        new = edit(random, entries[at])
        if new == entries[at]:
            return None
        entries[at] = new
        return Repacking(what, [encode(entries)], {new.seq})

    return change


def _bit(field: str) -> Callable[[Random, StoredEntry], StoredEntry]:
    def edit(random: Random, entry: StoredEntry) -> StoredEntry:
        data = getattr(entry, field)
        new = flipped(data, random.randrange(8 * len(data))) if data else b"x"
        return entry._replace(**{field: new})  # type: ignore[arg-type]

    return edit


def _other_leaf(random: Random, entry: StoredEntry) -> StoredEntry:
    """Another meaning, in a leaf of the right form."""
    old, new = random.choice(
        [
            (b'"success"', b'"failure"'),
            (b'"approve"', b'"decline"'),
            (b'"seal":null', b'"seal":"x"'),
        ]
    )
    return entry._replace(leaf=entry.leaf.replace(old, new))


def _other_tag(random: Random, entry: StoredEntry) -> StoredEntry:
    field = random.choice(["actor_tag", "subject_tag"])
    return entry._replace(**{field: getattr(entry, field) ^ 1 << random.randrange(24)})


def _other_payload(random: Random, entry: StoredEntry) -> StoredEntry:
    payload = entry.payload
    others = [payload[:-1], payload + b" ", b"", random.randbytes(len(payload)), payload * 2]
    return entry._replace(payload=random.choice(others))


def _last_hash(random: Random, entries: list[StoredEntry]) -> Repacking | None:
    last = entries[-1]
    entries[-1] = last._replace(entry_hash=random.randbytes(32))
    return Repacking("the last hash", [encode(entries)], {last.seq})


def _swapped(random: Random, entries: list[StoredEntry]) -> Repacking | None:
    """Two entries that exchange a field, or all but their places and hashes."""
    fields = random.choice(
        [("payload",), ("signature",), ("leaf",), ("leaf", "signature", "payload")]
    )
    if len(entries) < 2:
        return None
    a, b = sorted(random.sample(range(len(entries)), 2))
    one, other = entries[a], entries[b]
    if any(getattr(one, field) == getattr(other, field) for field in fields):
        return None
    entries[a] = one._replace(**{field: getattr(other, field) for field in fields})
    entries[b] = other._replace(**{field: getattr(one, field) for field in fields})
    return Repacking(f"{' and '.join(fields)} swapped", [encode(entries)], {one.seq, other.seq})


def _removed(random: Random, entries: list[StoredEntry]) -> Repacking | None:
    """An entry left out: the block ends before it, and another begins after it."""
    at = random.randrange(len(entries))
    parts = [part for part in (entries[:at], entries[at + 1 :]) if part]
    return Repacking("removed", [encode(part) for part in parts], {entries[at].seq})


def _divided(random: Random, entries: list[StoredEntry]) -> Repacking | None:
    """The same entries in two blocks."""
    if len(entries) < 2:
        return None
    at = random.randrange(1, len(entries))
    return Repacking("divided", [encode(entries[:at]), encode(entries[at:])], {entries[at].seq})


CHANGES: Final[tuple[Change, ...]] = (
    _edited("a bit of the leaf", _bit("leaf")),
    _edited("a bit of the signature", _bit("signature")),
    _edited("a bit of the payload", _bit("payload")),
    _edited("another leaf", _other_leaf),
    _edited("another tag", _other_tag),
    _edited("another payload", _other_payload),
    _last_hash,
    _swapped,
    _removed,
    _divided,
)
