"""New hashes of a tree as rows of tiles: no row reaches over the end of its tile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ledger.merkle.edge import TILE_HEIGHT
from ledger.storage.signing_transaction import Part

TILE_WIDTH: Final = 1 << TILE_HEIGHT
"""Hashes in a full tile."""


def parts_of(org_id: int, size: int, new: Mapping[int, Sequence[bytes]]) -> Iterator[Part]:
    """The rows that hold what extending a tree of ``size`` leaves added, by level of its tiles."""
    for level, hashes in new.items():
        at, index = 0, size >> TILE_HEIGHT * level
        while at < len(hashes):
            tile, start = divmod(index, TILE_WIDTH)
            some = hashes[at : at + TILE_WIDTH - start]
            yield Part(org_id, level, tile, start, b"".join(some))
            at += len(some)
            index += len(some)
