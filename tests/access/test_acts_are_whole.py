"""An erasure, a thaw, a freeze, sealed events and an accepted loss stand with their entries, or neither does.

Each statement of their transactions is broken before and after it took effect, as a killed process
or a cut connection would; the statement is a double that cuts its own connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ledger.core.org import OrgFacts
from ledger.core.register import FaultSeqs
from ledger.errors import DatabaseUnavailable, OrgFrozen
from ledger.event import LOSS_ACCEPTED
from ledger.sealed_events import SECURITY_EVENTS
from ledger.storage.acknowledged_events import Acknowledgement, EventFilter, ListedEvent
from ledger.storage.trail import AppendTransaction, NotWritten
from server.oversight import acts
from server.oversight.entry_kinds import ACKNOWLEDGED, REVIEWED
from server.trails.own.entry_kinds import ERASED, THAWED
from tests.support.acting_process import Office, office
from tests.support.broken_steps import broken, broken_statement
from tests.support.clusters import Database

FAULTS = FaultSeqs(1, [0])
MOST_STATEMENTS = 40
SUBJECTS = "SELECT ref FROM subjects WHERE org_id = $1 AND ref = ANY ($2::text[])"
EVENTS = "SELECT count(*) FROM security_events WHERE org_id = $1 AND kind = 'org_frozen'"

MARKS = "SELECT event_id FROM sealed_events WHERE org_id = $1"


class Act(NamedTuple):
    """An act on an org, what comes before it, and whether it is done, which must be whole."""

    prepare: Callable[[Office, OrgFacts], Awaitable[Any]]
    run: Callable[[Office, OrgFacts], Awaitable[Any]]
    is_done: Callable[[Office, OrgFacts], Awaitable[bool]]


async def nothing(_: Office, __: OrgFacts) -> None:
    """Prepare nothing."""


async def erase(at: Office, org: OrgFacts) -> None:
    await at.guard.erase(org, "bob", "key")


async def erased(at: Office, org: OrgFacts) -> bool:
    leaves, register = await at.leaves(org), await at.recorded()
    refs = {leaf.subject for leaf in leaves if leaf.subject is not None}
    rows = await at.database.fetch(SUBJECTS, org.id, list(refs))
    done = len(rows) == len(refs) - 1
    assert done or len(rows) == len(refs)
    assert [leaf.event_type for leaf in leaves].count(ERASED) == int(done)
    assert sum(register.is_erased(org.id, ref) for ref in refs) == int(done)
    return done


async def freeze(at: Office, org: OrgFacts) -> None:
    await at.work.sequencer.freezes.freeze(org.id, org.slug, "1 fault", FAULTS)


async def frozen(at: Office, org: OrgFacts) -> bool:
    done, events = await at.is_frozen(org), await at.database.fetchrow(EVENTS, org.id)
    assert events is not None
    assert events[0] == int(done)
    return done


async def thaw(at: Office, org: OrgFacts) -> None:
    await at.guard.thaw(org, "looked at", "key")


async def thawed(at: Office, org: OrgFacts) -> bool:
    done = not await at.is_frozen(org)
    assert (await at.kinds(org)).count(THAWED) == int(done)
    return done


async def lose(at: Office, org: OrgFacts) -> None:
    await at.lose(org, 2)
    with pytest.raises(OrgFrozen):
        await at.append(org, "anna")
    assert await at.is_frozen(org)


async def accept(at: Office, org: OrgFacts) -> None:
    await at.losses.accept(org, "the disk was lost")


async def accepted(at: Office, org: OrgFacts) -> bool:
    done = not await at.is_frozen(org)
    assert (await at.kinds(org)).count(LOSS_ACCEPTED) == int(done)
    head = at.heads.get(org.id)
    assert head is not None
    assert head.seq == (2 if done else 3)
    return done


async def raise_event(at: Office, org: OrgFacts) -> None:
    await at.add_event(org)


async def acknowledge(at: Office, org: OrgFacts) -> None:
    (event,) = await listed(at, org)
    said = Acknowledgement(datetime.now(UTC), "key", "looked at")
    await acts.acknowledge(at.guard, at.events, org, event, said)


async def acknowledged(at: Office, org: OrgFacts) -> bool:
    (event,) = await listed(at, org)
    done = event.acknowledged is not None
    assert not event.is_forged
    assert (await at.kinds(org)).count(ACKNOWLEDGED) == int(done)
    return done


async def listed(at: Office, org: OrgFacts) -> list[ListedEvent]:
    found, _ = await at.events.page(org.id, EventFilter(), 2**63 - 1, 5, of_all=False)
    return found


async def seal(at: Office, org: OrgFacts) -> None:
    await at.sealing.seal(org.id)


async def sealed(at: Office, org: OrgFacts) -> bool:
    rows = await at.database.fetch(MARKS, org.id)
    (event,) = await listed(at, org)
    assert [row[0] for row in rows] in ([], [event.row.id])
    assert (await at.kinds(org)).count(SECURITY_EVENTS) == len(rows)
    return len(rows) == 1


async def review(at: Office, org: OrgFacts) -> None:
    await acts.record_review(at.guard, org, (date(2026, 1, 1), date(2026, 1, 31)), "", "key")


async def reviewed(at: Office, org: OrgFacts) -> bool:
    return (await at.kinds(org)).count(REVIEWED) == 1


ACTS = {
    "erase": Act(nothing, erase, erased),
    "freeze": Act(nothing, freeze, frozen),
    "thaw": Act(freeze, thaw, thawed),
    "accept a loss": Act(lose, accept, accepted),
    "acknowledge": Act(raise_event, acknowledge, acknowledged),
    "seal events": Act(raise_event, seal, sealed),
    "review": Act(nothing, review, reviewed),
}


async def attempt(act: Act, at: Office, org: OrgFacts) -> bool:
    """Run an act; False if it was refused: then nothing was written."""
    try:
        await act.run(at, org)
    except NotWritten:  # by `accept`, which reads the end of the trail before
        assert not await act.is_done(at, org)
        return False
    return True


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_an_act_that_breaks_at_any_statement_is_whole(
    database_of_module: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Act,
    after: bool,
) -> None:
    async with office(database_of_module, tmp_path) as at:
        for number in range(MOST_STATEMENTS):
            org = await at.new_org()
            await act.prepare(at, org)
            with monkeypatch.context() as patched:
                cuts = broken_statement(patched, number, after=after)
                answered = await attempt(act, at, org)
            assert await act.is_done(at, org) or not answered
            if not answered:
                await act.run(at, org)
                assert await act.is_done(at, org)
            if not cuts:
                break
        assert 5 < number < MOST_STATEMENTS - 1, "begin, locks, effect, entries, heads at least"


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
async def test_an_act_whose_commit_breaks_is_whole(
    database_of_module: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    async with office(database_of_module, tmp_path) as at:
        for after in (False, True):
            org = await at.new_org()
            await act.prepare(at, org)
            with monkeypatch.context() as patched:
                assert broken(patched, AppendTransaction, "commit", after=after) == []
                await act.run(at, org)
            assert await act.is_done(at, org)


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
async def test_an_act_that_can_not_be_made_changes_nothing(
    database_of_module: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    async with office(database_of_module, tmp_path) as at:
        at.work.sequencer._committer._retry_s = 0
        org = await at.new_org()
        await act.prepare(at, org)
        for step in ("begin", "lock_heads", "copy_entries", "move_heads"):
            with monkeypatch.context() as patched:
                broken(patched, AppendTransaction, step, after=True, times=10**9)
                with pytest.raises((DatabaseUnavailable, NotWritten)):
                    await act.run(at, org)
            assert not await act.is_done(at, org)
        await act.run(at, org)
        assert await act.is_done(at, org)
