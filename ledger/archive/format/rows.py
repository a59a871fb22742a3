"""Rows put together from what an archive holds of them: the leaf here, all else in a pack."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ledger.archive.format.layout import Pack
from ledger.archive.format.packs import Packed, unpack_rows
from ledger.chain import StoredEntry
from ledger.entry import decode_leaf, entry_hash, search_tag
from ledger.errors import ArchiveMismatch, MalformedLeaf


def widest_at(packs: Sequence[Pack], at: int) -> Pack | None:
    """Of the packs that hold this entry of their bundle, the one that goes furthest."""
    holding = [pack for pack in packs if pack.first <= at <= pack.last]
    return max(holding, key=lambda pack: pack.last, default=None)


def entry_of(org_id: int, leaf: bytes, row: Packed) -> StoredEntry:
    """The stored row of an entry, all of whose other columns are in its leaf.

    Raises ArchiveMismatch for what is no leaf.
    """
    try:
        said = decode_leaf(leaf)
        anchored_at = datetime.fromisoformat(said.anchored_at)
    except (MalformedLeaf, ValueError) as error:
        raise ArchiveMismatch(f"an archived leaf can't be read: {error}") from error
    return StoredEntry(
        org_id,
        said.seq,
        anchored_at,
        search_tag(said.actor),
        search_tag(said.subject),
        entry_hash(leaf),
        row.signature,
        leaf,
        row.payload,
    )


def unpacked(pack: Pack, data: bytes) -> list[Packed]:
    """The rows of a pack, read from its object. Raises ArchiveMismatch."""
    return unpack_rows(data, pack.start, pack.end - pack.start)
