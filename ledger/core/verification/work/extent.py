"""How far a trail reaches, and whether a range that was asked for lies within it."""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

from ledger.core.verification.work.faults import RangeRefused, VerificationFailed
from ledger.core.verification.work.head import Ending, find_ending
from ledger.core.verification.work.segment import MAX_BIGINT
from ledger.core.verification.work.signed_sizes import find_signed
from ledger.core.verification.work.trust import Trust
from ledger.core.verification.work.wire import Signed
from ledger.storage.copy_out import HeadRow, NewestRow, Snapshot, open_snapshot

SETTLE_S: Final = 2.0
"""How long a verification waits for a checkpoint that the signer remembers to be stored."""
SETTLE_POLL_S: Final = 0.1


class Target(NamedTuple):
    """What to verify; None: from the first entry, or up to the head and whatever is beyond it."""

    org_id: int
    org: str
    from_seq: int | None = None
    to_seq: int | None = None


class Extent(NamedTuple):
    """What a trail's end is known by: head row, newest entry, signed logs.

    ``whole``: what was asked for is the whole trail, to its end.
    """

    head: HeadRow | None
    newest: NewestRow | None
    signed: Signed | None
    ending: Ending
    whole: bool


async def await_checkpoint(database_url: str, target: Target, trust: Trust | None) -> None:
    """Wait until the largest checkpoint that the signer remembers is stored, a short while.

    Its memory is written a moment before the database is.
    """
    known = max((head.size for head in trust.trail.remembered), default=0) if trust else 0
    deadline = time.monotonic() + SETTLE_S
    while known:
        async with open_snapshot(database_url) as snapshot, snapshot.trees() as trees:
            stored = await trees.newest(target.org_id, MAX_BIGINT, 1)
        if (stored and stored[0][0] >= known) or time.monotonic() > deadline:
            return
        await asyncio.sleep(SETTLE_POLL_S)


async def check_range(database_url: str, target: Target, trust: Trust | None) -> None:
    """Raise RangeRefused for a range that lies beyond the trail, wholly or in part."""
    if target.to_seq is None and not target.from_seq:
        return
    async with open_snapshot(database_url) as snapshot:
        await find_extent(snapshot, target, trust)


async def find_extent(snapshot: Snapshot, target: Target, trust: Trust | None) -> Extent:
    """How far the trail reaches in this snapshot.

    Raises RangeRefused where the range ends, or begins, beyond both the head and the
    largest size that is known to be signed; VerificationFailed where it is no range.
    """
    first, last = target.from_seq or 0, target.to_seq
    if not 0 <= first <= (first if last is None else last):
        raise VerificationFailed("from_seq must be 0 or more, and to_seq not below it")
    head = await snapshot.head(target.org_id)
    newest = await snapshot.newest(target.org_id)
    signed = None
    if trust is not None:
        async with snapshot.trees() as trees:
            signed = await find_signed(trees, target.org_id, trust)
    ending = find_ending(head, newest, signed.trail.signed if signed else 0)
    needed = signed.trail.needed if signed else 0
    end = max(ending.last, needed - 1, head.seq if head else -1)
    _require_within(target, first, end)
    if not first and (last is None or last == ending.last):
        return Extent(head, newest, signed, ending, whole=True)
    ending = ending._replace(last=max(ending.last, needed - 1))
    return Extent(head, newest, signed, ending, whole=False)


def _require_within(target: Target, first: int, end: int) -> None:
    """Raise RangeRefused unless the range lies within a trail that ends at ``end``."""
    last = target.to_seq
    if last is None and not first:
        return
    asked = first if last is None else last
    if asked <= end:
        return
    what = f"begins at {first}" if last is None else f"ends at {last}"
    has = (
        f"the trail of {target.org} ends at {end}"
        if end >= 0
        else (f"the trail of {target.org} has no entries")
    )
    raise RangeRefused(
        f"the range {what}, but {has}: neither its head nor anything signed goes further. "
        "Ask for a range within it, or for the whole trail"
    )
