"""Proofs made from tiles equal those made from all leaves, and need only the tiles they name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle
from ledger.errors import MerkleError, TileError
from ledger.merkle import Edge, leaf_hash, verify_consistency, verify_inclusion
from ledger.tiles import (
    EntryTile,
    StaticLog,
    Tile,
    TileProofs,
    consistency_proof,
    edge_from_tiles,
    inclusion_proof,
    tile_in,
    tiles_for_consistency,
    tiles_for_edge,
    tiles_for_inclusion,
    tiles_for_proofs,
)
from tests.support.static_logs import entries_of, grown_files, log_files, nothing

LARGEST = 70_000
ENTRIES = entries_of(LARGEST)
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
LEVELS = Edge().extend(LEAVES)
SIZES = st.integers(1, 600) | st.integers(65_000, LARGEST) | st.just(65_536)


def tile_bytes(tile: Tile) -> bytes:
    return b"".join(LEVELS[tile.level][tile.index * 256 :][: tile.width])


@given(st.data(), SIZES)
def test_inclusion_from_tiles(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    tiles = {tile: tile_bytes(tile) for tile in tiles_for_inclusion(index, size)}
    proof = inclusion_proof(index, size, tiles)
    assert proof == merkle.inclusion_proof(index, LEAVES[:size])
    wider = {tile: tile_bytes(tile.full()) for tile in tiles}
    assert inclusion_proof(index, size, wider) == proof
    for tile in tiles:
        without = {other: tiles[other] for other in tiles if other != tile}
        with pytest.raises(TileError, match="missing"):
            inclusion_proof(index, size, without)
        with pytest.raises(TileError, match="too few"):
            inclusion_proof(index, size, tiles | {tile: tiles[tile][:-1]})


@given(st.data(), SIZES)
def test_all_proofs_of_a_tile(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, (size - 1) // 256))
    tiles = {tile: tile_bytes(tile) for tile in tiles_for_proofs(index, size)}
    proofs = TileProofs(index, size, tiles)
    proofs.check(merkle.root(LEAVES[:size]))
    last = min(size, index * 256 + 256) - 1
    for leaf in {index * 256, last, data.draw(st.integers(index * 256, last))}:
        assert proofs.leaf_hash(leaf) == LEAVES[leaf]
        assert proofs.proof(leaf) == inclusion_proof(leaf, size, tiles)
    for tile in tiles:
        with pytest.raises(TileError):
            TileProofs(index, size, {one: tiles[one] for one in tiles if one != tile}).check(b"")


@given(st.data(), st.integers(1, 600))
def test_a_wrong_bit_in_any_tile_is_found(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, (size - 1) // 256))
    tiles = {tile: tile_bytes(tile) for tile in tiles_for_proofs(index, size)}
    own = tile_in(size, 0, index)
    place = data.draw(st.integers(0, own.width * 256 - 1))
    flipped = bytearray(tiles[own])
    flipped[place // 8] ^= 1 << place % 8
    with pytest.raises(MerkleError):
        TileProofs(index, size, tiles | {own: bytes(flipped)}).check(merkle.root(LEAVES[:size]))


@given(st.data(), SIZES)
def test_consistency_from_tiles(data: st.DataObject, size: int) -> None:
    earlier = data.draw(st.integers(1, size))
    tiles = {tile: tile_bytes(tile) for tile in tiles_for_consistency(earlier, size)}
    proof = consistency_proof(earlier, size, tiles)
    assert proof == merkle.consistency_proof(earlier, LEAVES[:size])
    for tile in tiles:
        with pytest.raises(TileError, match="missing"):
            consistency_proof(earlier, size, {one: tiles[one] for one in tiles if one != tile})


@given(SIZES)
def test_edge_from_tiles(size: int) -> None:
    tiles = {tile: tile_bytes(tile) for tile in tiles_for_edge(size)}
    assert all(tile.width < 256 for tile in tiles)
    edge, grown = edge_from_tiles(size, tiles), Edge()
    grown.extend(LEAVES[:size])
    assert (edge.size, edge.nodes) == (size, grown.nodes)


def test_proofs_that_no_tree_has_are_refused() -> None:
    assert edge_from_tiles(0, {}).size == 0
    with pytest.raises(MerkleError):
        tiles_for_inclusion(5, 5)
    with pytest.raises(MerkleError):
        tiles_for_consistency(0, 5)
    with pytest.raises(MerkleError):
        tiles_for_consistency(6, 5)
    with pytest.raises(TileError):
        tiles_for_edge(2**64)


@pytest.mark.parametrize("size", [1, 256, 300, 65_537])
def test_a_static_log_proves_from_its_files(size: int) -> None:
    files, root = log_files(ENTRIES[:size])
    log = StaticLog(files.get, size)
    assert log.edge().root() == root
    for index in {0, size // 2, size - 1}:
        verify_inclusion(index, size, LEAVES[index], log.inclusion_proof(index), root)
        then = merkle.root(LEAVES[: index + 1])
        assert log.edge(index + 1).root() == then
        verify_consistency(index + 1, size, then, root, log.consistency_proof(index + 1))
        proof = log.inclusion_proof(0, index + 1)
        verify_inclusion(0, index + 1, LEAVES[0], proof, then)
        assert log.entries(EntryTile(index // 256, index % 256 + 1))[-1] == ENTRIES[index]


def test_a_static_log_that_has_grown_is_read_as_it_was() -> None:
    """A log may remove partial files once the full ones exist (C2SP tlog-tiles, "Partial Tiles")."""
    files = grown_files(ENTRIES[:512], 300)
    assert "tile/0/001.p/44" not in files
    log = StaticLog(files.get, 300)
    assert log.edge().root() == merkle.root(LEAVES[:300])
    assert log.entries(EntryTile(1, 44)) == ENTRIES[256:300]
    assert log.tile(Tile(0, 1, 2)) == b"".join(LEAVES[256:258])
    with pytest.raises(TileError, match=r"has no tile/0/001\.p/45"):
        log.tile(Tile(0, 1, 45))
    with pytest.raises(TileError, match="has no tile 2"):
        log.entries(EntryTile(2, 1))
    with pytest.raises(TileError, match=r"tile/0/001\.p/44 is missing"):
        StaticLog(nothing, 300).edge()
    with pytest.raises(TileError, match="1407 bytes instead of 1408"):
        StaticLog({"tile/0/001.p/44": bytes(1407)}.get, 300).tile(Tile(0, 1, 4))
