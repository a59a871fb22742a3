"""Blocks that an owner planted, whatever they claim: named faults, in a bounded amount of memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import pytest

from ledger.blocks.block import Block, cut
from ledger.chain import EMPTY_HEAD, extend
from ledger.core.verification.work.segments import Segment, SegmentResult
from ledger.storage.entries.copying import MAX_ENDS_BYTES
from tests.support.block_format import Row, encode
from tests.support.hostile_blocks import HOSTILE, of_zeros
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, draft
from tests.verification.streams import blame_of, scan_blocks

COUNT: Final = 300
ROWS, HEAD = extend(
    ORG_ID,
    ORG,
    EMPTY_HEAD,
    [draft(b"payload %d " % number * 182) for number in range(COUNT)],
    NOW_US,
    KEY,
)
RIGHT = [encode(entries) for entries in cut(ROWS)]
WHOLE = Segment(0, COUNT - 1, open_start=True, tree=True)
MEMORY_BYTES = 250 << 20
"""Of two copies of the longest payload, and a window beside them."""


def scanned(rows: Sequence[Row]) -> SegmentResult:
    """The result of the blocks, as the database sends them, found in bounded memory."""
    made = [Block(*row) for row in sorted(rows, key=lambda row: row[1:3])]
    sent = [one._replace(ends=None) if len(one.ends) > MAX_ENDS_BYTES else one for one in made]  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        result = scan_blocks(sent, WHOLE)
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    finally:
        tracemalloc.stop()
    return result


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_block_costs_its_own_entries_only(name: str) -> None:
    kinds = blame_of(scanned([*HOSTILE[name](RIGHT[0]), *RIGHT[1:]]).faults)
    assert kinds
    assert all(0 <= seq <= 255 for seq in kinds)
    found = set().union(*kinds.values())
    assert found <= {"unreadable", "missing", "column_mismatch", "payload_mismatch", "block_border"}


def test_many_large_payloads_that_take_few_bytes() -> None:
    """More blocks at one seq than a trail can have, each of which inflates to 64 MiB."""
    zeros = of_zeros(ROWS[5], 64 << 20)
    later = [
        zeros._replace(anchored_at=zeros.anchored_at + timedelta(seconds=n)) for n in range(1, 9)
    ]
    kinds = blame_of(scanned([*RIGHT, *later]).faults)
    assert max(kinds) <= 255  # more than is held of a window is not put in order
    assert "payload_mismatch" in kinds[5]


def test_many_blocks_of_many_entries_in_one_window() -> None:
    later = [
        RIGHT[0]._replace(anchored_at=RIGHT[0].anchored_at + timedelta(microseconds=n))
        for n in range(1, 60)
    ]
    result = scanned([*RIGHT, *later])
    assert (len(result.faults), result.failed_rows) == (1_000, 59 * 256)
    assert result.kinds == ["column_mismatch", "duplicate_seq"]
