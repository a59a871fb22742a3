"""Erasing a person during appends: no entry is acknowledged under an erased key.

Each process has its own sealer with its own cache, like two servers.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
import pytest

from ledger.core.org import OrgFacts
from ledger.core.register import Register
from ledger.core.sealing.sealer import Sealer
from ledger.core.sequencer import Appended, Effect, Sequencer, StaleSeal
from ledger.entry import decode_leaf
from ledger.errors import AppendRefused, OrgFrozen
from ledger.event import Event, EventFields
from ledger.intake import IntakeLimits
from ledger.sealing import row_key
from ledger.storage import subjects
from ledger.storage.trail import AppendTransaction
from server.access.administration import Administration
from server.access.principal import KeyValidity
from server.trails.appending import Appender
from server.trails.guarding import NothingToErase, TrailGuard
from server.trails.own.entry_kinds import ERASED
from tests.support.appending import (
    MASTER_KEY,
    Process,
    held_head,
    new_org,
    process,
    request,
    rows_of,
    sound_trail,
    superuser,
    until,
)
from tests.support.clusters import Database
from tests.support.trails import RING


@dataclass
class Office:
    """The sequencer, sealer and eraser of one server process."""

    sealer: Sealer
    appender: Appender
    guard: TrailGuard
    sequencer: Sequencer

    async def append(self, org: OrgFacts, subject: str, count: int = 1) -> None:
        await self.appender.append(org, [event(subject) for _ in range(count)])


async def office(of: Process) -> Office:
    register = Register(of.database, lambda _: RING, row_key(MASTER_KEY))
    validity = KeyValidity(register, of.sequencer.clock)
    administration = Administration(of.database, of.sequencer, validity, lambda _: b"")
    await administration.begin(adopts=True)
    sealer = Sealer(of.database, MASTER_KEY, register)
    return Office(
        sealer,
        Appender(of.sequencer, sealer, MASTER_KEY, IntakeLimits(10_000, 2**20)),
        TrailGuard(of.database, of.sequencer, sealer, administration),
        of.sequencer,
    )


def event(subject: str) -> Event:
    body = msgspec.json.encode({"event_type": "met", "subject": subject, "actor": "ada"})
    return Event(msgspec.json.decode(body, type=EventFields), body)


@pytest.fixture
async def sealing_org(first_process: Process) -> OrgFacts:
    """An org that seals."""
    return await new_org(first_process.database, seals=True)


@pytest.fixture
async def offices(first_process: Process, second_process: Process) -> tuple[Office, Office]:
    return await office(first_process), await office(second_process)


async def refs(shared_database: Database, org: OrgFacts) -> list[tuple[str, str | None]]:
    """Kind and sealing ref of each entry of the trail, in order of seq."""
    leaves = [decode_leaf(row.leaf) for row in await rows_of(shared_database, org.id)]
    return [(leaf.event_type or "", leaf.payload.seal) for leaf in leaves]


async def test_a_request_sealed_before_an_erasure_is_sealed_again(
    shared_database: Database, offices: tuple[Office, Office], sealing_org: OrgFacts
) -> None:
    here, there = offices
    for each in offices:
        await each.append(sealing_org, "bob")
    await here.guard.erase(sealing_org, "bob", "key")
    await there.append(sealing_org, "bob")  # its cache still has the erased key
    kinds = await refs(shared_database, sealing_org)
    assert [kind for kind, _ in kinds] == ["met", "met", ERASED, "met"]
    assert kinds[0] == kinds[1] != kinds[3]
    await sound_trail(shared_database, sealing_org)


async def test_nothing_is_acknowledged_under_an_erased_key_after_its_erasure(
    shared_database: Database, offices: tuple[Office, Office], sealing_org: OrgFacts
) -> None:
    for each in offices:
        await each.append(sealing_org, "bob")
    stop = asyncio.Event()

    async def load(by: Office) -> int:
        appended = 0
        while not stop.is_set():
            await by.append(sealing_org, "bob", 3)
            appended += 3
        return appended

    loads = [asyncio.create_task(load(by)) for by in offices for _ in range(4)]
    for round_number in range(10):
        await offices[round_number % 2].guard.erase(sealing_org, "bob", "key")
        await offices[round_number % 2].append(sealing_org, "bob")
    stop.set()
    appended = sum(await asyncio.gather(*loads))
    kinds = await refs(shared_database, sealing_org)
    assert len(kinds) == appended + 2 + 10 + 10
    # An erasure ends all refs before it: none of them may be used after it.
    eras: list[set[str | None]] = [set()]
    for kind, ref in kinds:
        if kind == ERASED:
            eras.append(set())
        else:
            eras[-1].add(ref)
    assert len(eras) == 11
    seen: set[str | None] = set()
    for era in eras:
        assert len(era) <= 1, "two refs at once for one person"
        assert not era & seen, "a payload under an erased ref after the erasure's own entry"
        seen |= era
    async with superuser(shared_database) as connection:
        kept = await connection.fetch("SELECT ref FROM subjects WHERE org_id = $1", sealing_org.id)
    assert eras[-1] <= {row[0] for row in kept}
    await sound_trail(shared_database, sealing_org)


async def test_an_erasure_commits_with_its_entry(
    shared_database: Database, offices: tuple[Office, Office], sealing_org: OrgFacts
) -> None:
    here, there = offices
    await here.append(sealing_org, "bob")
    results = await asyncio.gather(
        *(by.guard.erase(sealing_org, "bob", "key") for by in offices for _ in range(3)),
        return_exceptions=True,
    )
    done = [result for result in results if not isinstance(result, BaseException)]
    assert len(done) == 1
    assert all(isinstance(r, NothingToErase) for r in results if isinstance(r, BaseException))
    assert [kind for kind, _ in await refs(shared_database, sealing_org)] == ["met", ERASED]
    with pytest.raises(NothingToErase):
        await there.guard.erase(sealing_org, "bob", "key")


async def test_an_effect_commits_with_its_entry_or_not_at_all(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    def rename(name: str, refusal: AppendRefused | None) -> Effect:
        async def effect(transaction: AppendTransaction) -> AppendRefused | None:
            statement = "UPDATE orgs SET name = name || $2 WHERE id = $1"
            await transaction.run(transaction.connection.execute(statement, org.id, name))
            return refusal

        return effect

    def effected(payload: bytes, effect: Effect) -> asyncio.Task[Appended]:
        return asyncio.create_task(
            first_process.sequencer.append(request(org, payload, effect=effect))
        )

    async with held_head(shared_database, org):
        first = first_process.append_in_task(org, b"first")
        await until(lambda: first_process.sequencer._in_flight, "a batch in flight")
        waiting = [
            first_process.append_in_task(org, b"before"),
            effected(b"no", rename(" refused", OrgFrozen(org.slug, "not now"))),
            effected(b"yes", rename(" renamed", None)),
            first_process.append_in_task(org, b"after"),
        ]
        await asyncio.sleep(0)
    await first
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[1], OrgFrozen)
    assert await sound_trail(shared_database, org) == [b"first", b"before", b"yes", b"after"]
    # first, before, the refused effect, the effect, after: an effect commits alone.
    assert [report.entries for report in first_process.reports] == [1, 1, 0, 1, 1]
    async with superuser(shared_database) as connection:
        name = await connection.fetchval("SELECT name FROM orgs WHERE id = $1", org.id)
    assert name == f"{org.slug} renamed"


async def test_a_lost_head_row_brings_no_old_seal_back(
    shared_database: Database, offices: tuple[Office, Office], sealing_org: OrgFacts
) -> None:
    """The erasure count is lost with the head row; the erased keys must stay erased."""
    here, there = offices
    for each in offices:
        await each.append(sealing_org, "bob")
    await here.guard.erase(sealing_org, "bob", "key")
    await here.append(sealing_org, "bob")
    async with superuser(shared_database) as connection:
        await connection.execute("DELETE FROM heads WHERE org_id = $1", sealing_org.id)
    with pytest.raises(OrgFrozen):
        await here.append(sealing_org, "bob")
    await here.guard.thaw(sealing_org, "looked at it", "key")
    await here.append(sealing_org, "bob")
    await there.append(sealing_org, "bob")
    seals = [ref for kind, ref in await refs(shared_database, sealing_org) if kind == "met"]
    assert seals[0] == seals[1]
    assert len(set(seals[2:])) == 1
    assert seals[0] not in seals[2:]


async def test_a_seal_of_another_count_is_refused(
    shared_database: Database, first_process: Process, sealing_org: OrgFacts
) -> None:
    with pytest.raises(StaleSeal) as stale:
        await first_process.append(sealing_org, b"x", erasures=7)
    assert stale.value.erasures == 0
    await first_process.append(sealing_org, b"x", erasures=0)
    async with superuser(shared_database) as connection:
        await connection.execute(subjects.COUNT_ERASURE, sealing_org.id)
    with pytest.raises(StaleSeal):
        await first_process.append(sealing_org, b"x", erasures=0)
    async with process(shared_database.server_url) as other:
        await other.append(sealing_org, b"x", erasures=1)
