"""The tree of a log, combined from segments, compared with naively computed trees."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle
from ledger.checkpoint import SignedTreeHead
from ledger.core.verification.trees.blocks import SegmentLeaves, SegmentTiles, tree_part
from ledger.core.verification.trees.log_tree import LogTree
from ledger.core.verification.work.faults import TRAIL_KINDS
from ledger.core.verification.work.segments import FaultList
from ledger.merkle import TILE_WIDTH

LEAVES = [sha256(b"%d" % n).digest() for n in range(2_000)]
OTHER = sha256(b"other").digest()

Found = list[tuple[int, str]]


def tree_of(
    rows: Sequence[bytes | None],
    stored: Sequence[bytes],
    heads: Sequence[SignedTreeHead],
    size: int,
    wrong: dict[int, bytes] | None = None,
) -> LogTree:
    """Judge rows and tiles in segments of ``size``; the largest of ``heads`` is the signed head."""
    signed = max((head.size for head in heads), default=0)
    tree = LogTree(TRAIL_KINDS, signed)
    tiles = {
        start // TILE_WIDTH: b"".join(stored[start : start + TILE_WIDTH])
        for start in range(0, len(stored), TILE_WIDTH)
    }
    for first in range(0, len(rows), size):
        segment = rows[first : first + size]
        mine = [head for head in heads if first < head.size <= first + len(segment)]
        part = tree_part(
            SegmentLeaves(first, segment, wrong or {}),
            SegmentTiles(tiles, signed, signed, TRAIL_KINDS),
            mine,
            FaultList(),
            set(),
        )
        for _ in tree.add(part):
            pass
    tree.close()
    upper = merkle.Edge().extend(stored)
    for tile in tree.finished:
        start = tile.number * TILE_WIDTH
        tree.compare(tile, b"".join(upper[tile.level][start : start + TILE_WIDTH]))
    return tree


def heads_of(sizes: Sequence[int], leaves: Sequence[bytes] = LEAVES) -> list[SignedTreeHead]:
    return [SignedTreeHead(size, merkle.root(leaves[:size])) for size in sorted(sizes)]


def found(tree: LogTree) -> Found:
    return sorted((fault.seq, fault.kind) for fault in tree.faults.named)


sizes = st.sets(st.integers(1, 1_999), min_size=1, max_size=30)
steps = st.sampled_from([256, 512, 1_024, 2_048])


@given(sizes, steps, st.integers(0, 600))
def test_every_signed_root_of_an_intact_log_holds(at: set[int], step: int, more: int) -> None:
    """For all sizes, segments, and numbers of unsigned entries."""
    signed = max(at)
    tree = tree_of(LEAVES[: signed + more], LEAVES[:signed], heads_of(list(at)), step)
    assert (found(tree), tree.matched, tree.unknown) == ([], len(at), False)


@given(sizes, steps, st.data())
def test_a_changed_hash_in_a_tile_is_the_tiles_fault(
    at: set[int], step: int, data: st.DataObject
) -> None:
    signed = max(at)
    seq = data.draw(st.integers(0, signed - 1))
    stored = [*LEAVES[:seq], OTHER, *LEAVES[seq + 1 : signed]]
    tree = tree_of(LEAVES[:signed], stored, heads_of(list(at)), step)
    assert (found(tree), tree.matched) == ([(seq, "tile_mismatch")], len(at))


@given(sizes, steps, st.data())
def test_another_leaf_in_a_row_is_the_rows_fault(
    at: set[int], step: int, data: st.DataObject
) -> None:
    signed = max(at)
    seq = data.draw(st.integers(0, signed - 1))
    rows = [*LEAVES[:seq], OTHER, *LEAVES[seq + 1 : signed]]
    tree = tree_of(rows, LEAVES[:signed], heads_of(list(at)), step)
    assert (found(tree), tree.matched, tree.rewritten) == ([(seq, "rewritten")], len(at), 1)


@given(sizes, steps, st.data())
def test_missing_or_wrong_rows_are_replaced_by_the_tiles(
    at: set[int], step: int, data: st.DataObject
) -> None:
    signed = max(at)
    lost = data.draw(st.sets(st.integers(0, signed - 1), max_size=20))
    wrong = {seq: OTHER for seq in lost if seq % 2}
    rows = [None if seq in lost else leaf for seq, leaf in enumerate(LEAVES[:signed])]
    tree = tree_of(rows, LEAVES[:signed], heads_of(list(at)), step, wrong)
    assert (found(tree), tree.matched, tree.displaced) == ([], len(at), bool(wrong))


@given(sizes, steps, st.data())
def test_a_root_of_something_else_is_a_fork(at: set[int], step: int, data: st.DataObject) -> None:
    signed = max(at)
    forked = data.draw(st.sets(st.sampled_from(sorted(at)), min_size=1))
    heads = [
        SignedTreeHead(head.size, OTHER) if head.size in forked else head
        for head in heads_of(list(at))
    ]
    tree = tree_of(LEAVES[:signed], LEAVES[:signed], heads, step)
    assert found(tree) == [(size - 1, "forked") for size in sorted(forked)]


@given(sizes, steps, st.data())
def test_shortened_tiles_are_missing_and_the_rows_replace_them(
    at: set[int], step: int, data: st.DataObject
) -> None:
    signed = max(at)
    left = data.draw(st.integers(0, signed - 1))
    stored = LEAVES[:left]
    tree = LogTree(TRAIL_KINDS, signed)
    tiles = {n // 256: b"".join(stored[n : n + 256]) for n in range(0, left, 256)}
    for first in range(0, signed, step):
        rows = SegmentLeaves(first, LEAVES[first : min(first + step, signed)], {})
        mine = [head for head in heads_of(list(at)) if first < head.size <= first + step]
        part = tree_part(
            rows, SegmentTiles(tiles, signed, signed, TRAIL_KINDS), mine, FaultList(), set()
        )
        for _ in tree.add(part):
            pass
    tree.close()
    assert {kind for _, kind in found(tree)} == {"tile_missing"}
    assert min(found(tree))[0] == left
    assert (tree.matched, tree.unknown) == (len(at), False)


def test_a_leaf_missing_in_rows_and_tiles_is_not_guessed() -> None:
    rows = [*LEAVES[:300], None, *LEAVES[301:600]]
    tree = tree_of(rows, LEAVES[:290], heads_of([200, 300, 600]), 1_024)
    assert (tree.matched, tree.unknown) == (2, True)
    assert {kind for _, kind in found(tree)} == {"tile_missing"}
