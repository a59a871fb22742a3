"""How far the signed logs reach into a range, and so what its verification asks for.

Signing follows appending, anchoring follows signing, and what others attest
follows anchors. An entry that waits no longer than its limit is no fault of
anybody, and asks for nothing; one that waits longer leaves the verdict incomplete.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from ledger.core.verification.work.limits import SigningLimits
from ledger.core.verification.work.tally import Tally
from ledger.storage.copy_out import Snapshot


class Reach(NamedTuple):
    """Up to which size the trail is covered by each of the signed logs; 0 where it is not.

    ``known`` is the largest size that is known to be signed, stored or not. ``stamped`` and
    ``cosigned`` are None where the settings name no authority, no witness.
    """

    signed: int = 0
    anchored: int = 0
    stamped: int | None = None
    cosigned: int | None = None
    known: int = 0


class _Part(NamedTuple):
    """Checks that reach as far as ``size``, and what an entry beyond it waits for."""

    checks: tuple[str, ...]
    doubted: tuple[str, ...]
    size: int
    awaited: str
    known: int = 0


async def ask(
    snapshot: Snapshot, org_id: int, reach: Reach, limits: SigningLimits, tally: Tally
) -> None:
    """Note in the tally what is asked for of the signed logs, and what of it is not there."""
    if tally.last < tally.first:
        return
    tally.unsigned_entries = max(0, tally.last + 1 - max(tally.first, reach.signed))
    for part in _parts(reach):
        await _ask_for(part, snapshot, org_id, limits, tally)


def _parts(reach: Reach) -> list[_Part]:
    parts = [
        _Part(
            ("tree", "checkpoints", "classical_signature"),
            ("tree", "checkpoints"),
            reach.signed,
            "a checkpoint",
            reach.known,
        ),
        _Part(("anchors", "pq_signature"), ("anchors",), reach.anchored, "an anchor"),
    ]
    if reach.stamped is not None:
        parts.append(_Part(("external_time",), ("external_time",), reach.stamped, "a timestamp"))
    if reach.cosigned is not None:
        what = "cosignatures of enough witnesses"
        parts.append(_Part(("witnesses",), ("witnesses",), reach.cosigned, what))
    return parts


async def _ask_for(
    part: _Part, snapshot: Snapshot, org_id: int, limits: SigningLimits, tally: Tally
) -> None:
    """A part is asked for as soon as it covers an entry of the range, or should."""
    covers = part.size > tally.first
    first = max(part.size, tally.first)
    limit_s = limits.of(part.checks[0])
    lost = first <= tally.last and first < part.known
    late = first <= tally.last and (lost or await _is_old(snapshot, org_id, first, limit_s))
    if covers or late:
        tally.asked.update(part.checks)
    if not covers:
        tally.held.difference_update(part.checks)
        reason = (
            _lost(part) if lost else f"the entries from {tally.first} on wait for {part.awaited}"
        )
        tally.reasons.update(dict.fromkeys(part.checks, reason))
    if late:
        old = (
            f"entry {first} was written more than {limit_s:g} s ago and has not got {part.awaited}"
        )
        reason = _lost(part) if lost else old
        tally.doubted.update(dict.fromkeys(part.doubted, reason))


def _lost(part: _Part) -> str:
    return f"a tree of {part.known} entries was signed, and the database has no checkpoint of it"


async def _is_old(snapshot: Snapshot, org_id: int, seq: int, limit_s: float) -> bool:
    """Whether an entry waits longer than the limit; one that is not in the database does."""
    written_us = await snapshot.written_us(org_id, seq)
    return written_us is None or written_us < (time.time() - limit_s) * 1_000_000
