"""Tiled logs: a tree and its entries as a finite set of immutable files.

C2SP tlog-tiles; ``docs/format.md`` names the version. The package has coordinates,
entry bundles, proofs made from tiles, and the verification of a whole log, all
without I/O: the caller reads the files and passes their bytes.
"""

from __future__ import annotations

from ledger.merkle import TILE_WIDTH
from ledger.tiles.bundles import (
    MAX_BUNDLE_BYTES,
    MAX_ENTRY_BYTES,
    gunzip_bounded,
    pack_entries,
    read_bundle,
    unpack_entries,
)
from ledger.tiles.coordinates import (
    MAX_TILE_BYTES,
    EntryTile,
    Tile,
    bundles_of,
    by_tile,
    parse_path,
    tile_in,
    tiles_of,
)
from ledger.tiles.proofs import (
    TileProofs,
    consistency_proof,
    edge_from_tiles,
    inclusion_proof,
    tiles_for_consistency,
    tiles_for_edge,
    tiles_for_inclusion,
    tiles_for_proofs,
)
from ledger.tiles.static_log import StaticLog
from ledger.tiles.verification import (
    MAX_FAULTS,
    LogFault,
    LogReport,
    verification,
    verify_log,
)

__all__ = [
    "MAX_BUNDLE_BYTES",
    "MAX_ENTRY_BYTES",
    "MAX_FAULTS",
    "MAX_TILE_BYTES",
    "TILE_WIDTH",
    "EntryTile",
    "LogFault",
    "LogReport",
    "StaticLog",
    "Tile",
    "TileProofs",
    "bundles_of",
    "by_tile",
    "consistency_proof",
    "edge_from_tiles",
    "gunzip_bounded",
    "inclusion_proof",
    "pack_entries",
    "parse_path",
    "read_bundle",
    "tile_in",
    "tiles_for_consistency",
    "tiles_for_edge",
    "tiles_for_inclusion",
    "tiles_for_proofs",
    "tiles_of",
    "unpack_entries",
    "verification",
    "verify_log",
]
