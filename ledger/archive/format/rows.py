"""Rebuilds stored rows from an archive: the leaf from a bundle, all else from a pack."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ledger.archive.format.layout import Pack
from ledger.archive.format.packs import Packed, unpack_rows
from ledger.chain import StoredEntry
from ledger.entry import decode_leaf, entry_hash, search_tag
from ledger.errors import ArchiveMismatch, MalformedLeaf


def widest_at(packs: Sequence[Pack], at: int) -> Pack | None:
    """Return the pack that holds entry ``at`` of its bundle and reaches furthest, or None."""
    candidates = [pack for pack in packs if pack.first <= at <= pack.last]
    return max(candidates, key=lambda pack: pack.last, default=None)


def entry_of(org_id: int, leaf: bytes, row: Packed) -> StoredEntry:
    """Build the stored row of an entry from its leaf and its row in a pack.

    Raises ArchiveMismatch where the leaf can't be read.
    """
    try:
        content = decode_leaf(leaf)
        anchored_at = datetime.fromisoformat(content.anchored_at)
    except (MalformedLeaf, ValueError) as error:
        raise ArchiveMismatch(f"an archived leaf can't be read: {error}") from error
    return StoredEntry(
        org_id,
        content.seq,
        anchored_at,
        search_tag(content.actor),
        search_tag(content.subject),
        entry_hash(leaf),
        row.signature,
        leaf,
        row.payload,
    )


def unpacked(pack: Pack, data: bytes) -> list[Packed]:
    """Decode the rows of a pack from its object. Raises ArchiveMismatch."""
    return unpack_rows(data, pack.start, pack.end - pack.start)
