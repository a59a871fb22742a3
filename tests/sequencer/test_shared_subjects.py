"""The cache of persons that orgs share: no org's persons keep another org from appending (A1)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ledger.bounded import BoundedCache
from ledger.core.org import OrgFacts
from ledger.core.sealing.sealer import SEALED_AT_ONCE, Sealer, Subject
from ledger.event import Event, EventFields
from ledger.storage import subjects
from tests.support.appending import MASTER_KEY, Process, new_org


def met(*names: str) -> list[Event]:
    return [Event(EventFields(event_type="met", subject=name), b"{}") for name in names]


@pytest.fixture
async def sealer(first_process: Process) -> Sealer:
    """A sealer that caches two persons, of all orgs together."""
    sealer = Sealer(first_process.database, MASTER_KEY)
    sealer._subjects = BoundedCache[str, Subject](2)
    return sealer


@pytest.fixture
async def orgs(first_process: Process) -> list[OrgFacts]:
    return [await new_org(first_process.database, seals=True) for _ in range(3)]


async def refs(sealer: Sealer, org: OrgFacts, *names: str) -> list[str | None]:
    return [draft.subject for draft in (await sealer.draft(org, met(*names))).drafts]


async def test_a_cached_and_a_new_person_in_one_request_beside_a_large_org(
    sealer: Sealer, orgs: list[OrgFacts]
) -> None:
    large, small, third = orgs
    (alice,) = await refs(sealer, small, "alice")
    await refs(sealer, large, *(f"person {number}" for number in range(50)))
    for number in range(5):
        found = await refs(sealer, small, "alice", f"new {number}")
        assert found[0] == alice
        await refs(sealer, third, "somebody")
        await refs(sealer, large, "person 1", f"another {number}")


async def test_a_request_ends_with_more_persons_than_the_cache_holds(
    sealer: Sealer, orgs: list[OrgFacts]
) -> None:
    names = [f"person {number}" for number in range(20)]
    first = await refs(sealer, orgs[0], *names)
    assert len(set(first)) == 20
    assert await refs(sealer, orgs[0], *names) == first


async def test_requests_of_three_orgs_at_once(sealer: Sealer, orgs: list[OrgFacts]) -> None:
    async def work(org: OrgFacts) -> Sequence[str | None]:
        for number in range(9):
            await refs(sealer, org, "ada", f"bert {number}", "cleo")
        return await refs(sealer, org, "ada", "bert", "cleo")

    before = [await refs(sealer, org, "ada", "cleo") for org in orgs]
    after = await asyncio.gather(*map(work, orgs))
    assert [[found[0], found[2]] for found in after] == before


async def test_a_person_erased_between_two_loads_is_made_anew(
    sealer: Sealer, orgs: list[OrgFacts], first_process: Process
) -> None:
    org = orgs[0]
    old = await refs(sealer, org, "ada", "bert")
    lookup = sealer.keys(org).lookup("ada")
    async with first_process.database.transaction() as connection:
        await connection.execute(
            "DELETE FROM subjects WHERE org_id = $1 AND lookup = $2", org.id, lookup
        )
        await connection.execute(
            "UPDATE heads SET erasures = erasures + 1 WHERE org_id = $1", org.id
        )
    new = await refs(sealer, org, "ada", "bert", "cleo")  # cleo is loaded, which shows the erasure
    assert new[0] != old[0]
    assert new[1] == old[1]
    erasures, _ = await subjects.find(first_process.database, org.id, [lookup])
    assert sealer.keys(org).erasures == erasures


async def test_a_large_request_lets_others_go_on_while_it_is_sealed(
    sealer: Sealer, orgs: list[OrgFacts]
) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    names = [f"person {number}" for number in range(10 * SEALED_AT_ONCE)]
    found = await refs(sealer, orgs[0], *names)
    counting.cancel()
    assert len(set(found)) == len(names)
    # The keys are wrapped, opened and used in ten slices each.
    assert turns >= 30
