"""An archive in the writer's format, written as files without a database."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench import events
from bench.stage import KEYRING
from ledger.anchor import blind
from ledger.archive.format.layout import (
    ANCHORS,
    CHECKPOINT,
    LOG_KEYS,
    ORG,
    CheckpointAt,
    Pack,
    Span,
)
from ledger.archive.format.packs import Packed, pack_rows
from ledger.archive.format.records import AnchoredAt, ArchivedCheckpoint, ArchivedOrg, encode_rows
from ledger.chain import EMPTY_HEAD, StoredEntry, extend
from ledger.checkpoint import TreeHead
from ledger.merkle import Edge, leaf_hash
from ledger.note import sign_note
from ledger.tiles import TILE_WIDTH, EntryTile, pack_entries, tiles_of
from tests.support.signing import log_keys

SLUG: Final = "archived"
KEYS: Final = log_keys()
HISTORY: Final = KEYS.public()
SIGNED_US: Final = 1_767_268_800_000_000
_DISTINCT_EVENTS: Final = 20_000
_BATCH_ENTRIES: Final = 100 * TILE_WIDTH
_NONCE: Final = bytes(32)


def lay(root: Path, count: int) -> Path:
    """Write the archives of a trail of ``count`` entries and of the anchor log.

    Returns the trail's folder.
    """
    folder = root / SLUG
    drafts = [events.draft(number) for number in range(_DISTINCT_EVENTS)]
    levels: dict[int, list[bytes]] = {}
    edge, head = Edge(), EMPTY_HEAD
    for first in range(0, count, _BATCH_ENTRIES):
        last = min(first + _BATCH_ENTRIES, count)
        batch = [drafts[n % _DISTINCT_EVENTS] for n in range(first, last)]
        rows, head = extend(1, SLUG, head, batch, SIGNED_US, KEYRING.active)
        for level, hashes in edge.extend([row.entry_hash for row in rows]).items():
            levels.setdefault(level, []).extend(hashes)
        for start in range(0, len(rows), TILE_WIDTH):
            _lay_entries(folder, rows[start : start + TILE_WIDTH])
    note = _lay_log(folder, HISTORY.org_origin(SLUG), edge, levels)
    _lay_rows(folder, note, count)
    leaf = blind(_NONCE, note)
    anchors, anchor_edge = root / ANCHORS, Edge()
    anchor_levels = anchor_edge.extend([leaf_hash(leaf)])
    _put(anchors, EntryTile(0, 1).path(), pack_entries([leaf]))
    anchor = _lay_log(anchors, HISTORY.anchor_origin, anchor_edge, anchor_levels)
    _put(
        anchors,
        Span("history", 0, 1).key(),
        encode_rows([ArchivedCheckpoint(anchor, SIGNED_US, 1)]),
    )
    return folder


def _lay_entries(folder: Path, rows: list[StoredEntry]) -> None:
    tile = rows[0].seq // TILE_WIDTH
    _put(folder, EntryTile(tile, len(rows)).path(), pack_entries(row.leaf for row in rows))
    packed = [Packed(row.signature, row.payload) for row in rows]
    _put(folder, Pack(tile, 0, len(rows) - 1).key(), pack_rows(rows[0].seq, packed))


def _lay_log(folder: Path, origin: str, edge: Edge, levels: dict[int, list[bytes]]) -> bytes:
    """Write a log's tiles, note and keys; return the note."""
    for tile in tiles_of(edge.size):
        start = tile.index * TILE_WIDTH
        _put(folder, tile.path(), b"".join(levels[tile.level][start : start + tile.width]))
    text = TreeHead(origin, edge.size, edge.root()).text()
    of_org = origin != HISTORY.anchor_origin
    signers = KEYS.org_signers(SLUG) if of_org else KEYS.anchor_signers()
    note = sign_note(text, signers, SIGNED_US // 1_000_000)
    _put(folder, CheckpointAt(edge.size).key(), note)
    _put(folder, LOG_KEYS, HISTORY.document())
    _put(folder, CHECKPOINT, note)
    return note


def _lay_rows(folder: Path, note: bytes, count: int) -> None:
    _put(
        folder,
        Span("history", 0, count).key(),
        encode_rows([ArchivedCheckpoint(note, SIGNED_US, count)]),
    )
    _put(folder, Span("nonces", 0, 1).key(), encode_rows([AnchoredAt(0, _NONCE, count)]))
    org = ArchivedOrg(
        created_us=SIGNED_US, log_public=False, name=SLUG, org=SLUG, org_id=1, privacy="plain"
    )
    _put(folder, ORG, org.encode())


def _put(folder: Path, key: str, data: bytes) -> None:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
