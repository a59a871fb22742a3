"""The extent of a trail and of its signed logs, and the checks that it makes required.

Signing follows appending, anchoring follows signing, and attestations
follow anchors. An entry that waits for one of them within its limit requires no check;
an entry that waits longer makes the verdict incomplete.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

from ledger.checkpoint import SignedTreeHead
from ledger.core.verification.work.crew import LogExtent, SignedExtent
from ledger.core.verification.work.faults import (
    ANCHOR_KINDS,
    TRAIL_KINDS,
    LogKinds,
    RangeRefused,
    VerificationFailed,
)
from ledger.core.verification.work.segments import MAX_BIGINT
from ledger.core.verification.work.tally import Ending, Tally, find_ending
from ledger.core.verification.work.trust import LogTrust, NoteJudge, TrailTrust
from ledger.merkle import EMPTY_ROOT
from ledger.storage.copy_out import HeadRow, Snapshot, open_snapshot
from ledger.storage.entries.extent import NewestRow
from ledger.storage.tree_out import ANCHOR_LOG, TreeReader

SETTLE_S: Final = 2.0
"""How long a verification waits for a checkpoint that the signer remembers to be stored."""
SETTLE_POLL_S: Final = 0.1


class TrailRange(NamedTuple):
    """The range to verify; None: from the first entry, or up to the head and all rows beyond it."""

    org_id: int
    org: str
    from_seq: int | None = None
    to_seq: int | None = None


class Extent(NamedTuple):
    """The end of a trail by its head row, its newest entry and its signed logs.

    ``whole``: the requested range is the whole trail.
    """

    head: HeadRow | None
    newest: NewestRow | None
    signed: SignedExtent | None
    ending: Ending
    whole: bool


async def await_checkpoint(database_url: str, target: TrailRange, trust: TrailTrust | None) -> None:
    """Wait, for SETTLE_S at most, until the largest checkpoint that the signer remembers is stored.

    The signer writes its memory a moment before the database.
    """
    known = max((head.size for head in trust.trail.remembered), default=0) if trust else 0
    deadline = time.monotonic() + SETTLE_S
    while known:
        async with open_snapshot(database_url) as snapshot, snapshot.trees() as trees:
            stored = await trees.newest(target.org_id, MAX_BIGINT, 1)
        if (stored and stored[0][0] >= known) or time.monotonic() > deadline:
            return
        await asyncio.sleep(SETTLE_POLL_S)


async def check_range(database_url: str, target: TrailRange, trust: TrailTrust | None) -> None:
    """Raise RangeRefused for a range that begins or ends beyond the trail."""
    if target.to_seq is None and not target.from_seq:
        return
    async with open_snapshot(database_url) as snapshot:
        await find_extent(snapshot, target, trust)


async def find_extent(snapshot: Snapshot, target: TrailRange, trust: TrailTrust | None) -> Extent:
    """Find the extent of the trail in this snapshot.

    Raises RangeRefused if the range ends or begins beyond both the head and the
    largest size that is known to be signed; VerificationFailed if the range is invalid.
    """
    first, last = target.from_seq or 0, target.to_seq
    if not 0 <= first <= (first if last is None else last):
        raise VerificationFailed("from_seq must be at least 0, and to_seq at least from_seq")
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


def _require_within(target: TrailRange, first: int, end: int) -> None:
    """Raise RangeRefused unless the range lies within a trail that ends at ``end``."""
    last = target.to_seq
    if last is None and not first:
        return
    furthest = first if last is None else last
    if furthest <= end:
        return
    requested = f"begins at {first}" if last is None else f"ends at {last}"
    trail = (
        f"the trail of {target.org} ends at {end}"
        if end >= 0
        else (f"the trail of {target.org} has no entries")
    )
    raise RangeRefused(
        f"the range {requested}, but {trail}: neither its head row nor a signed checkpoint "
        "reaches further. Request a range within the trail, or the whole trail"
    )


TRIES: Final = 1_000
"""Checkpoints that are read at most, from the largest down, to find one with a valid signature."""
AT_ONCE: Final = 50


async def find_signed(trees: TreeReader, org_id: int, trust: TrailTrust) -> SignedExtent:
    """Find the largest stored heads that a trusted key signed; the empty head if there is none."""
    trail = await _largest(trees, org_id, trust.trail, TRAIL_KINDS)
    anchors = await _largest(trees, ANCHOR_LOG, trust.anchors, ANCHOR_KINDS)
    return SignedExtent(trust, LogExtent(trail, trust.trail), LogExtent(anchors, trust.anchors))


async def _largest(
    trees: TreeReader, org_id: int, log: LogTrust, kinds: LogKinds
) -> SignedTreeHead:
    judge = NoteJudge(log, kinds)
    below = MAX_BIGINT
    for _ in range(TRIES // AT_ONCE):
        rows = await trees.newest(org_id, below, AT_ONCE)
        for size, root, note in rows:
            judged = judge.judge(size, root, note)
            if judged.head is not None and judged.head.size == size:
                return SignedTreeHead(size, judged.head.root)
        if len(rows) < AT_ONCE:
            break
        below = rows[-1][0]
    return SignedTreeHead(0, EMPTY_ROOT)


SIGNING_LIMIT_S: Final = 300.0


class SigningLimits(NamedTuple):
    """The time, in seconds from the writing of an entry, within which it must be covered.

    ``signing_s``: by a checkpoint. ``anchoring_s``: by an anchor over
    that checkpoint, with cosignatures. ``stamping_s``: by a timestamp of such an anchor.
    After that the verdict is incomplete.
    """

    signing_s: float = SIGNING_LIMIT_S
    anchoring_s: float = SIGNING_LIMIT_S
    stamping_s: float = SIGNING_LIMIT_S

    def of(self, check: str) -> float:
        """The limit that applies to a check."""
        return {
            "tree": self.signing_s,
            "checkpoints": self.signing_s,
            "classical_signature": self.signing_s,
            "external_time": self.stamping_s,
        }.get(check, self.anchoring_s)


class CoveredSizes(NamedTuple):
    """The sizes up to which the trail is signed, anchored, timestamped and cosigned; 0 for none.

    ``known`` is the largest size that is known to be signed, stored or not. ``stamped`` and
    ``cosigned`` are None if the settings name no authority or no witness.
    """

    signed: int = 0
    anchored: int = 0
    stamped: int | None = None
    cosigned: int | None = None
    known: int = 0


class _SignedPart(NamedTuple):
    """Checks of entries below ``size``; entries beyond it still wait for ``awaited``."""

    checks: tuple[str, ...]
    doubted: tuple[str, ...]
    size: int
    awaited: str
    known: int = 0


async def require_coverage(
    snapshot: Snapshot, org_id: int, covered: CoveredSizes, limits: SigningLimits, tally: Tally
) -> None:
    """Add to the tally which checks of the signed logs are required, and which of them lack."""
    if tally.last < tally.first:
        return
    tally.unsigned_entries = max(0, tally.last + 1 - max(tally.first, covered.signed))
    for part in _parts(covered):
        await _require_part(part, snapshot, org_id, limits, tally)


def _parts(covered: CoveredSizes) -> list[_SignedPart]:
    parts = [
        _SignedPart(
            ("tree", "checkpoints", "classical_signature"),
            ("tree", "checkpoints"),
            covered.signed,
            "a checkpoint",
            covered.known,
        ),
        _SignedPart(("anchors", "pq_signature"), ("anchors",), covered.anchored, "an anchor"),
    ]
    if covered.stamped is not None:
        parts.append(
            _SignedPart(("external_time",), ("external_time",), covered.stamped, "a timestamp")
        )
    if covered.cosigned is not None:
        awaited = "cosignatures of enough witnesses"
        parts.append(_SignedPart(("witnesses",), ("witnesses",), covered.cosigned, awaited))
    return parts


async def _require_part(
    part: _SignedPart, snapshot: Snapshot, org_id: int, limits: SigningLimits, tally: Tally
) -> None:
    """Require a part's checks if it covers an entry of the range, or should cover one by now."""
    covers = part.size > tally.first
    first = max(part.size, tally.first)
    limit_s = limits.of(part.checks[0])
    lost = first <= tally.last and first < part.known
    late = first <= tally.last and (lost or await _is_old(snapshot, org_id, first, limit_s))
    if covers or late:
        tally.required.update(part.checks)
    if not covers:
        tally.passed.difference_update(part.checks)
        reason = (
            _lost(part) if lost else f"the entries from {tally.first} on wait for {part.awaited}"
        )
        tally.reasons.update(dict.fromkeys(part.checks, reason))
    if late:
        old = (
            f"entry {first} was written more than {limit_s:g} s ago and still waits for "
            f"{part.awaited}"
        )
        reason = _lost(part) if lost else old
        tally.doubted.update(dict.fromkeys(part.doubted, reason))


def _lost(part: _SignedPart) -> str:
    return f"a tree of {part.known} entries was signed, but its checkpoint is not in the database"


async def _is_old(snapshot: Snapshot, org_id: int, seq: int, limit_s: float) -> bool:
    """True if an entry waits longer than the limit, or is not in the database."""
    written_us = await snapshot.written_us(org_id, seq)
    return written_us is None or written_us < (time.time() - limit_s) * 1_000_000
