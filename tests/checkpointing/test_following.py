"""The checkpointer's reading of a trail, without a database: every bit flipped, chunks cut anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.chain import EMPTY_HEAD, StoredEntry
from ledger.core.checkpointing.following import FollowedRows, Follower, LeafRange, OutOfOrder
from ledger.entry import entry_hash
from ledger.storage.copy_format import COPY_SIGNATURE, COPY_TRAILER
from tests.support.trails import ORG, ORG_ID, RING, flips, trail

ROWS, _ = trail(4, EMPTY_HEAD)
HASHES = [row.entry_hash for row in ROWS]
PLACE = LeafRange(ORG_ID, ORG, 0, len(ROWS), None, 0)
OTHER = LeafRange(ORG_ID + 1, "other", 0, 1, None, 0)


def stream(rows: Sequence[StoredEntry]) -> bytes:
    """The rows as the database's COPY sends them; None is NULL."""
    parts = [COPY_SIGNATURE, bytes(8)]
    for row in rows:
        values: list[bytes | None] = [
            pack(">q", row.org_id), pack(">q", row.seq), row.entry_hash, row.signature, row.leaf,
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
        if column == "leaf":
            rows[seq] = rows[seq]._replace(entry_hash=entry_hash(flipped))
            assert (await follow(stream(rows))).doubt is not None


@given(st.integers(1, 700), st.permutations(range(len(ROWS))), st.integers(0, len(ROWS)))
async def test_only_the_whole_trail_in_order_is_accepted(
    cut: int, order: list[int], count: int
) -> None:
    rows = [ROWS[place] for place in order[:count]]
    found = await follow(stream(rows), cut=cut)
    whole = [row.seq for row in rows] == list(range(len(ROWS)))
    assert (found.doubt is None) == whole
    assert found.hashes == HASHES[: len(found.hashes)]


@given(
    st.sampled_from(["leaf", "entry_hash", "signature"]),
    st.none() | st.binary(max_size=40) | st.binary(min_size=70_000, max_size=70_000),
    st.integers(0, len(ROWS) - 1),
    st.integers(1, 5_000),
)
async def test_values_of_any_width_are_doubts_of_their_own_org_only(
    column: str, value: bytes | None, seq: int, cut: int
) -> None:
    rows = [*ROWS]
    rows[seq] = rows[seq]._replace(**{column: value})  # type: ignore[arg-type]
    (after,), _ = trail(1, EMPTY_HEAD)
    follower = Follower([PLACE, OTHER], RING)
    data = stream([*rows, after._replace(org_id=OTHER.org_id)])
    for start in range(0, len(data), cut):
        await follower.feed(data[start : start + cut])
    found = follower.finish()
    assert found[ORG_ID].doubt is not None
    assert found[ORG_ID].hashes == HASHES[:seq]
    doubt = found[OTHER.org_id].doubt
    assert doubt is not None
    assert doubt.kind == "entry_moved"  # the row names the first org


async def test_rows_of_other_orgs_are_refused() -> None:
    with pytest.raises(OutOfOrder):
        await follow(stream([ROWS[0]._replace(org_id=99)]))


async def test_an_empty_stream_is_a_missing_trail() -> None:
    found = await follow(stream([]), [PLACE, OTHER])
    assert found.doubt is not None
    assert found.doubt.kind == "entry_missing"
