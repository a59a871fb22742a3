"""Tile coordinates, paths and entry bundles in the form of C2SP tlog-tiles."""

import gzip
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import TileError
from ledger.tiles import (
    MAX_BUNDLE_BYTES,
    MAX_ENTRY_BYTES,
    EntryTile,
    Tile,
    bundles_of,
    by_tile,
    gunzip_bounded,
    pack_entries,
    parse_path,
    read_bundle,
    tile_in,
    tiles_of,
    unpack_entries,
)

PATHS = {
    "tile/0/000": Tile(0, 0),
    "tile/0/x001/067": Tile(0, 1067),
    "tile/0/x001/x234/067": Tile(0, 1234067),
    "tile/2/000.p/1": Tile(2, 0, 1),
    "tile/63/x001/000.p/255": Tile(63, 1000, 255),
    "tile/entries/999": EntryTile(999),
    "tile/entries/x001/x234/067.p/17": EntryTile(1234067, 17),
}


@pytest.mark.parametrize(("path", "tile"), PATHS.items())
def test_a_path_is_written_and_read(path: str, tile: Tile | EntryTile) -> None:
    assert tile.path() == path
    assert parse_path(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/067",
        "tile/0/x001",
        "tile/0/001/067",
        "tile/0/x001/x067",
        "tile/00/000",
        "tile/64/000",
        "tile/100/000",
        "tile/-1/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000\n",
        "tile/0/٠٠٠",
        "tile/0/../000",
        "tile/data/000",
        "tile/entries/-01",
        "tile/0/x072/x057/x594/x037/x927/936",
        "tile/0/" + "x999/" * 9 + "999",
    ],
)
def test_any_other_spelling_is_refused(path: str) -> None:
    with pytest.raises(TileError):
        parse_path(path)


@given(st.text(max_size=40) | st.from_regex(r"tile/[0-9entris]+/[x0-9/]+(\.p/[0-9]+)?"))
def test_a_parsed_path_is_written_back_unchanged(path: str) -> None:
    with suppress(TileError):
        assert parse_path(path).path() == path


@given(st.integers(0, 63), st.integers(0, 2**56 - 1), st.integers(1, 256))
def test_every_tile_has_a_path_of_its_own(level: int, index: int, width: int) -> None:
    assert parse_path(Tile(level, index, width).path()) == Tile(level, index, width)
    assert parse_path(EntryTile(index, width).path()) == EntryTile(index, width)


@pytest.mark.parametrize("tile", [Tile(-1, 0), Tile(64, 0), Tile(0, -1), Tile(0, 2**56)])
def test_impossible_tiles_have_no_path(tile: Tile) -> None:
    with pytest.raises(TileError):
        tile.path()


def test_the_tiles_of_the_standards_example() -> None:
    """C2SP tlog-tiles, "Partial Tiles": a tree of 70,000 leaves."""
    tiles = list(tiles_of(70_000))
    assert tiles[:273] == [Tile(0, index) for index in range(273)]
    assert tiles[273:] == [Tile(0, 273, 112), Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(bundles_of(257)) == [EntryTile(0), EntryTile(1, 1)]
    assert list(tiles_of(0)) == []
    assert list(bundles_of(0)) == []
    assert tile_in(70_000, 0, 273) == Tile(0, 273, 112)
    for level, index in [(0, 274), (1, 2), (2, 1), (3, 0), (-1, 0), (0, -1), (64, 0)]:
        with pytest.raises(TileError, match="has no tile"):
            tile_in(70_000, level, index)


@given(st.lists(st.binary(max_size=300), max_size=40))
def test_entries_are_read_back_from_a_bundle(entries: list[bytes]) -> None:
    packed = pack_entries(entries)
    assert unpack_entries(packed) == entries
    assert read_bundle(packed, len(entries)) == entries
    assert read_bundle(gzip.compress(packed), len(entries)) == entries
    with pytest.raises(TileError, match=f"holds {len(entries)} entries"):
        read_bundle(packed, len(entries) + 1)


def test_the_largest_bundle_is_read_and_a_larger_entry_refused() -> None:
    largest = [bytes(MAX_ENTRY_BYTES)] * 256
    packed = pack_entries(largest)
    assert len(packed) == MAX_BUNDLE_BYTES
    assert read_bundle(gzip.compress(packed, 1), 256) == largest
    with pytest.raises(TileError, match="entry 1 has 65536 bytes"):
        pack_entries([b"", bytes(MAX_ENTRY_BYTES + 1)])
    with pytest.raises(TileError, match="more than 256"):
        unpack_entries(pack_entries([b""] * 257))
    with pytest.raises(TileError, match="more than 2 entries"):
        unpack_entries(pack_entries([b""] * 3), limit=2)


def test_a_bundle_cut_anywhere_is_refused_or_shorter() -> None:
    packed = pack_entries([b"one", b"", b"three"])
    for end in range(len(packed)):
        with pytest.raises(TileError):
            read_bundle(packed[:end], 3)


def test_gzip_is_bounded_and_whole() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(TileError, match="decompresses to more than"):
        read_bundle(bomb, 1)
    packed = gzip.compress(b"123456")
    assert gunzip_bounded(packed, 6) == b"123456"
    with pytest.raises(TileError, match="more than 5 bytes"):
        gunzip_bounded(packed, 5)
    with pytest.raises(TileError, match="bytes follow the end"):
        gunzip_bounded(packed + b"x", 6)
    for end in range(len(packed)):
        with pytest.raises(TileError, match=r"cut short|damaged"):
            gunzip_bounded(packed[:end], 6)
    damaged = packed[:-5] + bytes([packed[-5] ^ 1]) + packed[-4:]
    with pytest.raises(TileError, match="damaged"):
        gunzip_bounded(damaged, 6)


@given(st.binary(max_size=2000), st.integers(0, 300))
def test_arbitrary_bytes_only_raise_tile_error(data: bytes, number: int) -> None:
    for attempt in (
        lambda: unpack_entries(data, number),
        lambda: read_bundle(data, number),
        lambda: read_bundle(b"\x1f\x8b\x08" + data, number),
        lambda: gunzip_bounded(data, number),
        lambda: gunzip_bounded(b"\x1f\x8b\x08\x00" + data, number),
    ):
        with suppress(TileError):
            attempt()


@given(st.integers(0, 2_000), st.integers(0, 2_000))
def test_leaves_are_cut_by_their_tiles(first: int, count: int) -> None:
    cut = list(by_tile(first, first + count - 1))
    assert [leaf for _, leaves in cut for leaf in leaves] == list(range(first, first + count))
    assert [index for index, _ in cut] == sorted(
        {leaf // 256 for _, leaves in cut for leaf in leaves}
    )
    assert all({leaf // 256 for leaf in leaves} == {index} for index, leaves in cut)
