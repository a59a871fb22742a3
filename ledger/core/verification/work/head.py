"""The head row against the trail it should end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ledger.chain import EMPTY_SEQ, Fault
from ledger.core.verification.work.tally import Tally
from ledger.entry import decode_leaf, format_time
from ledger.errors import MalformedLeaf
from ledger.storage.copy_out import HeadRow, NewestRow


class Ending(NamedTuple):
    """Where a trail should end, and what is already known to be wrong with its head row."""

    last: int
    fault: Fault | None


def find_ending(head: HeadRow | None, newest: NewestRow | None, signed: int = 0) -> Ending:
    """The seq of the last entry there should be (-1: none), from the head row and newest entry.

    ``signed``: so many entries there were when the largest checkpoint was signed.
    """
    last, fault = _by_rows(head, newest)
    return Ending(max(last, signed - 1), fault)


def _by_rows(head: HeadRow | None, newest: NewestRow | None) -> Ending:
    newest_seq = newest.seq if newest else EMPTY_SEQ
    if head is None:
        fault = Fault(max(newest_seq, 0), "head_missing", "the org has no head row")
        return Ending(max(newest_seq, EMPTY_SEQ), fault)
    if head.seq < EMPTY_SEQ:
        fault = Fault(head.seq, "head_mismatch", "the head row has an impossible seq")
        return Ending(max(newest_seq, EMPTY_SEQ), fault)
    if newest and newest_seq != head.seq and _is_named(newest, head):
        # A cut tail or an entry too many would not have the head's hash at the end.
        reason = f"the head row says seq {head.seq} but names the hash of entry {newest_seq}"
        return Ending(newest_seq, Fault(head.seq, "head_mismatch", reason))
    return Ending(head.seq, None)


def _is_named(newest: NewestRow, head: HeadRow) -> bool:
    """Whether the newest row stands in its place and is the one whose hash the head row has."""
    if newest.entry_hash != head.entry_hash or newest.leaf is None:
        return False
    try:
        return decode_leaf(newest.leaf).seq == newest.seq
    except MalformedLeaf:
        return False


def check_head(
    head: HeadRow, tally: Tally, end_hashes: Sequence[bytes], end_time: str | None
) -> None:
    """Compare the head row with the last entry read; both must name the same hash and time."""
    if head.seq == EMPTY_SEQ:
        if head.entry_hash != b"":
            _fault(tally, head, "the head row of an empty trail names a hash")
        else:
            tally.head = True
        return
    if not end_hashes:
        return
    if head.entry_hash not in end_hashes:
        _fault(tally, head, "the head row does not name the hash of the last entry")
    elif end_time is not None and end_time != _text(head.anchored_us):
        _fault(tally, head, "the head row does not have the time of the last entry")
    elif end_time is not None:
        tally.head = True


def _fault(tally: Tally, head: HeadRow, reason: str) -> None:
    tally.add_fault(Fault(head.seq, "head_mismatch", reason))


def _text(time_us: int | None) -> str | None:
    return None if time_us is None else format_time(time_us)
