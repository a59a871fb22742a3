"""Borders that were moved or added are named where they are, and no border beside them."""

from collections.abc import Sequence

import pytest

from ledger.blocks.block import Block, cut, pack
from ledger.chain import EMPTY_HEAD, StoredEntry, extend
from ledger.core.verification.rows.scan import SegmentScan
from ledger.core.verification.work.segments import Segment
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, RING, draft
from tests.verification.streams import stream

SIZED = extend(
    ORG_ID, ORG, EMPTY_HEAD, [draft(bytes([n]) * 400_000) for n in range(25)], NOW_US, KEY
)[0]
WHOLE = [part[0].seq for part in cut(SIZED)]


def border_faults(entries: Sequence[StoredEntry], begun: Sequence[int]) -> dict[int, str]:
    """Faults of the entries in blocks that begin at these seqs."""
    ends = [*begun[1:], len(entries)]
    parts = zip(begun, ends, strict=True)
    return faults([pack(entries[first:after]) for first, after in parts], ORG)


def faults(blocks: Sequence[Block], org: str) -> dict[int, str]:
    last = blocks[-1].last_seq
    checking = SegmentScan(org, RING, Segment(0, last, open_start=True))
    checking.feed(stream(blocks))
    return {fault.seq: fault.kind for fault in checking.finish().faults}


def test_borders_by_size_are_right() -> None:
    assert WHOLE == [0, 10, 20]
    assert border_faults(SIZED, WHOLE) == {}


@pytest.mark.parametrize(
    ("begun", "wrong"),
    [
        ([0, 5, 10, 20], [5]),
        ([0, 10, 13, 17, 20], [13, 17]),
        ([0, 9, 15, 20], [9, 15]),
        ([0, 10, 20, 24], [24]),
        ([0, 9, 19], [9, 19]),
    ],
)
def test_a_border_that_was_added_or_moved_is_named_alone(
    begun: list[int], wrong: list[int]
) -> None:
    assert border_faults(SIZED, begun) == dict.fromkeys(wrong, "block_border")


def test_the_record_of_a_drop_that_was_compressed_is_named() -> None:
    drafts = [draft(b"a"), draft(b"{}" * 300, event_type="quire.partition_dropped")]
    first, record = extend(ORG_ID, "system", EMPTY_HEAD, drafts, NOW_US, KEY)[0]
    assert faults([pack([first]), pack([record], raw=True)], "system") == {}
    assert faults([pack([first]), pack([record])], "system") == {1: "block_border"}
