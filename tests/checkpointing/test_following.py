"""The checkpointer's reading of a trail, without a database: every bit flipped, chunks cut anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.blocks.block import Block
from ledger.blocks.block import pack as packed
from ledger.chain import EMPTY_HEAD, StoredEntry
from ledger.core.checkpointing.following import FollowedRows, Follower, LeafRange, OutOfOrder
from ledger.entry import entry_hash
from ledger.storage.copy_format import COPY_SIGNATURE, COPY_TRAILER
from tests.support.trails import ORG, ORG_ID, RING, flips, trail
from tests.verification.streams import blocks

ROWS, _ = trail(4, EMPTY_HEAD)
LONG, _ = trail(600, EMPTY_HEAD)
HASHES = [row.entry_hash for row in ROWS]
PLACE = LeafRange(ORG_ID, ORG, 0, len(ROWS), None, 0)
OTHER = LeafRange(ORG_ID + 1, "other", 0, 1, None, 0)


def stream(rows: Sequence[StoredEntry], entries: int = 1) -> bytes:
    """The rows, in blocks of so many, as the database's COPY sends them."""
    return copied(block for block in blocks(rows, entries))


def copied(made: Iterable[Block]) -> bytes:
    """Blocks as the database's COPY sends them; None is NULL."""
    parts = [COPY_SIGNATURE, bytes(8)]
    for block in made:
        values: list[bytes | None] = [
            pack(">q", block.org_id), pack(">q", block.last_seq), pack(">q", block.first_seq),
            block.last_hash, block.ends, block.leaves,
        ]  # fmt: skip
        parts.append(pack(">h", len(values)))
        parts += [
            pack(">i", -1) if value is None else pack(">i", len(value)) + value for value in values
        ]
    return b"".join([*parts, COPY_TRAILER])


async def follow(
    data: bytes, places: Sequence[LeafRange] = (PLACE,), cut: int = 1 << 20
) -> FollowedRows:
    """Follow the stream, cut into chunks of ``cut`` bytes; returns the rows of the first range."""
    follower = Follower(places, RING)
    for start in range(0, len(data), cut):
        await follower.feed(data[start : start + cut])
    return follower.finish()[places[0].org_id]


@pytest.mark.parametrize("column", ["leaf", "entry_hash", "signature"])
@pytest.mark.parametrize("seq", [0, 1, 3])
async def test_no_bit_can_flip(seq: int, column: str) -> None:
    for flipped in flips(getattr(ROWS[seq], column)):
        rows = [*ROWS]
        rows[seq] = rows[seq]._replace(**{column: flipped})  # type: ignore[arg-type]
        found = await follow(stream(rows))
        assert found.doubt is not None
        assert found.hashes == HASHES[:seq]
        if column != "entry_hash":  # which is a column only for the last of a block
            together = await follow(stream(rows, len(ROWS)))
            assert together.doubt is not None
            assert together.doubt.kind == found.doubt.kind
            assert together.hashes == HASHES[:seq]
        if column == "leaf":
            rows[seq] = rows[seq]._replace(entry_hash=entry_hash(flipped))
            assert (await follow(stream(rows))).doubt is not None


@given(st.integers(1, 700), st.permutations(range(len(ROWS))), st.integers(0, len(ROWS)))
async def test_only_the_whole_trail_in_order_is_accepted(
    cut: int, order: list[int], count: int
) -> None:
    made = [packed([ROWS[place]]) for place in order[:count]]
    found = await follow(copied(made), cut=cut)
    whole = order[:count] == list(range(len(ROWS)))
    assert (found.doubt is None) == whole
    assert found.hashes == HASHES[: len(found.hashes)]


@given(
    st.sampled_from(["last_hash", "ends", "leaves", "first_seq"]),
    st.none() | st.binary(max_size=40) | st.binary(min_size=70_000, max_size=70_000),
    st.integers(0, len(ROWS) - 1),
    st.integers(1, 5_000),
)
async def test_values_of_any_width_are_doubts_of_their_own_org_only(
    column: str, value: bytes | None, seq: int, cut: int
) -> None:
    made = blocks(ROWS, 1)
    changed: Any = value if column != "first_seq" else -(2**63)
    made[seq] = made[seq]._replace(**{column: changed})
    (after,), _ = trail(1, EMPTY_HEAD)
    follower = Follower([PLACE, OTHER], RING)
    data = copied([*made, packed([after._replace(org_id=OTHER.org_id)])])
    for start in range(0, len(data), cut):
        await follower.feed(data[start : start + cut])
    found = follower.finish()
    assert found[ORG_ID].doubt is not None
    assert found[ORG_ID].hashes == HASHES[:seq]
    doubt = found[OTHER.org_id].doubt
    assert doubt is not None
    assert doubt.kind == "entry_moved"  # the block's leaf names the first org


@pytest.mark.parametrize("entries", [1, 3, 256])
@pytest.mark.parametrize(("lower", "upper"), [(0, 600), (5, 6), (255, 300), (1, 599), (256, 512)])
async def test_a_range_cuts_blocks(entries: int, lower: int, upper: int) -> None:
    made = blocks(LONG, entries)
    link = LONG[lower - 1].entry_hash.hex() if lower else None
    place = PLACE._replace(lower=lower, upper=upper, link=link)
    chosen = [block for block in made if block.last_seq >= lower and block.first_seq < upper]
    found = await follow(copied(chosen), [place])
    assert found.doubt is None
    assert found.hashes == [row.entry_hash for row in LONG[lower:upper]]
    wrong = await follow(copied(chosen), [place._replace(link="0" * 64)])
    assert wrong.doubt is not None
    assert wrong.doubt.kind == "link_broken"


@pytest.mark.parametrize(("first", "last"), [(0, 0), (2, 5), (100, 120), (250, 255)])
async def test_a_block_that_overlaps_another_is_doubted(first: int, last: int) -> None:
    planted = packed(LONG[first : last + 1])
    made = [*blocks(LONG[:100]), *blocks(LONG[100:256])]
    for there in ([*made, planted], [planted, *made]):
        ordered = sorted(there, key=lambda block: block.last_seq)
        found = await follow(copied(ordered), [PLACE._replace(upper=256)])
        assert found.doubt is not None
        assert found.doubt.kind == "entry_inserted"


async def test_a_frame_that_can_not_be_inflated_is_a_doubt() -> None:
    (block,) = blocks(LONG[:100])
    middle = len(block.leaves) // 2
    damaged = bytearray(block.leaves)
    damaged[middle] ^= 1
    found = await follow(copied([block._replace(leaves=bytes(damaged))]), [PLACE])
    assert found.doubt is None or found.doubt.kind == "entry_malformed"
    found = await follow(
        copied([block._replace(leaves=bytes(damaged))]), [PLACE._replace(upper=100)]
    )
    assert found.doubt is not None
    assert found.doubt.kind == "entry_malformed"


async def test_a_leaf_that_holds_a_second_one_is_not_counted_as_two() -> None:
    """Not even where the signer's keys signed it, and another leaf is empty."""
    both = ROWS[1].leaf + b"\n" + ROWS[2].leaf
    digest = entry_hash(both)
    forged = ROWS[1]._replace(leaf=both, signature=RING.active.sign(digest))
    nothing = ROWS[2]._replace(leaf=b"", signature=RING.active.sign(entry_hash(b"")))
    found = await follow(stream([ROWS[0], forged, nothing, ROWS[3]], 4))
    assert found.doubt is not None
    assert found.hashes == HASHES[:1]


async def test_rows_of_other_orgs_are_refused() -> None:
    with pytest.raises(OutOfOrder):
        await follow(stream([ROWS[0]._replace(org_id=99)]))


async def test_an_empty_stream_is_a_missing_trail() -> None:
    found = await follow(stream([]), [PLACE, OTHER])
    assert found.doubt is not None
    assert found.doubt.kind == "entry_missing"
