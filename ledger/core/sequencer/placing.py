"""Which requests of a batch may be placed: sealed late enough, by a valid key, with effects that succeed."""

from __future__ import annotations

from ledger.core.sequencer.outcome import BatchOutcome, LaneBatch
from ledger.core.sequencer.request import AppendRequest, StaleKey, StaleSeal
from ledger.storage.entries.heads import LockedHead
from ledger.storage.trail import AppendTransaction


async def placeable(
    transaction: AppendTransaction,
    turn: LaneBatch,
    row: LockedHead | None,
    outcome: BatchOutcome,
    undo: bool,
) -> list[AppendRequest]:
    """The requests of a turn that may be placed now; the others are refused."""
    erasures, revocations = (0, 0) if row is None else (row.erasures, row.revocations)
    fresh = [
        request
        for request in turn.requests
        if not _refuse_stale(request, erasures, outcome)
        and not _refuse_unpermitted(request, revocations, outcome)
    ]
    fresh = await _change_rows(fresh, transaction, outcome)
    return [request for request in fresh if await _run_effect(request, transaction, outcome, undo)]


async def _change_rows(
    requests: list[AppendRequest], transaction: AppendTransaction, outcome: BatchOutcome
) -> list[AppendRequest]:
    """Make the changes of rows; a refused change changed nothing, and its request is refused."""
    effects = [request.row for request in requests if request.row is not None]
    if not effects:
        return requests
    made = await transaction.change_rows([effect.change for effect in effects])
    for effect, created_at in zip(effects, made, strict=True):
        effect.created_at = created_at
    placed = []
    for request in requests:
        if request.row is None or request.row.created_at is not None:
            placed.append(request)
        else:
            outcome.refusals.append((request, await request.row.refusal(transaction)))
    return placed


def _refuse_stale(request: AppendRequest, erasures: int, outcome: BatchOutcome) -> bool:
    """Refuse a request that was sealed before the org's last erasure; returns True if it did."""
    if request.erasures is None or request.erasures == erasures:
        return False
    outcome.refusals.append((request, StaleSeal(erasures)))
    return True


def _refuse_unpermitted(request: AppendRequest, revocations: int, outcome: BatchOutcome) -> bool:
    """Refuse a request whose key may have been revoked since; returns True if it did.

    A revocation counts under the same lock, so none is answered between this and the commit.
    """
    if request.permit is None or request.permit(revocations):
        return False
    outcome.refusals.append((request, StaleKey()))
    return True


async def _run_effect(
    request: AppendRequest, transaction: AppendTransaction, outcome: BatchOutcome, undo: bool
) -> bool:
    """Run the request's effect; a refusing effect is undone and its request refused (False).

    Without ``undo``, a refusal undoes the whole transaction.
    """
    if request.effect is None:
        return True
    if undo:
        await transaction.run(transaction.connection.execute("SAVEPOINT effect"))
    refusal = await request.effect(transaction)
    if refusal is not None:
        if undo:
            await transaction.run(transaction.connection.execute("ROLLBACK TO effect"))
        outcome.refusals.append((request, refusal))
    return refusal is None
