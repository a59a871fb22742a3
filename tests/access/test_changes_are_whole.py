"""Each change of a row that decides stands with its entry, or neither does, whatever breaks.

Each step of the transaction is broken before and after it took effect, as a killed process or a cut
connection would; the step is a double that cuts its own connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from itertools import count
from secrets import token_hex
from typing import Any

import pytest

from ledger.core.org import OrgFacts
from ledger.core.register import API_KEYS, ORG_LIMITS, ORGS, Register
from ledger.errors import DatabaseUnavailable
from ledger.sealing import row_key
from ledger.storage import database as storage
from ledger.storage import org_limits, orgs
from ledger.storage.api_keys import ApiKeyRecord
from ledger.storage.trail import AppendTransaction
from server.access.administration import Administration
from server.access.auth import NewKey
from server.access.keys.api_keys import ApiKeys
from server.access.keys.changes import AskedKey, KeyChanges, KeyEnded
from server.access.limits.changes import LimitChanges
from server.access.limits.known import OrgRates
from server.access.limits.rules import PerMinute
from tests.support.broken_steps import broken, broken_statement
from tests.support.clusters import Cluster, Database
from tests.support.orgs import MASTER_KEY, at_work
from tests.support.trails import RING


@pytest.fixture(scope="module")
def shared_database(postgres_cluster: Cluster) -> Iterator[Database]:
    """One database for these tests, whose orgs are all recorded in its trail `system`."""
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


STEPS = ["begin", "lock_heads", "change_rows", "copy_entries", "move_heads", "commit"]
AT_ONCE = "change_at_once"
"""The only step where the process knows the end of the trail `system`."""


def steps_of(act: Act) -> list[str]:
    """The steps of a change: that of a key has statements of its own, for several rows."""
    several = [step for step in STEPS if step != "change_rows"]
    return several if act in OF_KEYS.values() else [AT_ONCE, *STEPS]


def forget_the_end(work: Administration) -> None:
    """Make the process read the end of `system` before the next change, as after another's."""
    work.sequencer._tools.heads._heads.clear()


async def consistent(database: storage.Database) -> tuple[int, int, int]:
    """Check each row with the register as a new process folds it; return their numbers."""
    register = Register(database, lambda _: RING, row_key(MASTER_KEY))
    assert await register.open()
    records = await orgs.list_orgs(database, "", 1_000)
    for record in records:
        assert register.knows(ORGS, record.slug, record.mac)
        assert orgs.ORGS.is_right(register.row_key, record.mac, *record.row())
    keys = ApiKeys(database, register)
    found = [key for record in records for key in await keys.of_org(record.id)]
    assert all(key.is_authentic for key in found)
    for record in records:
        assert set(register.state.keys(API_KEYS, record.id)) == {
            key.id for key in found if key.org_id == record.id
        }
    stated = {key for record in records for key in register.state.keys(ORGS, record.id)}
    assert stated == {record.slug for record in records}
    limits = [await org_limits.of_org(database, record.id) for record in records]
    for record, own in zip(records, limits, strict=True):
        name = str(record.id)
        assert register.has(ORG_LIMITS, name) == (own is not None)
        if own is not None:
            assert own.is_authentic(register.row_key)
            assert register.knows(ORG_LIMITS, name, own.mac)
    return len(records), len(found), len([own for own in limits if own is not None])


Act = Callable[[storage.Database, Administration, str], Awaitable[Any]]


async def create(_: storage.Database, work: Administration, slug: str) -> None:
    await work.create_org(f"{slug}-2", "Two", "sealed")


async def change(database: storage.Database, work: Administration, slug: str) -> None:
    record = await orgs.org_by_slug(database, slug)
    assert record is not None
    await work.change_org(record.id, name="Another", log_public=True)


async def add_key(database: storage.Database, work: Administration, slug: str) -> None:
    record = await orgs.org_by_slug(database, slug)
    assert record is not None
    await KeyChanges(work).add(AskedKey(token_hex(8), record.id, "new", "viewer", b"h" * 32), slug)


async def first_key(database: storage.Database, work: Administration, slug: str) -> ApiKeyRecord:
    record = await orgs.org_by_slug(database, slug)
    assert record is not None
    return (await ApiKeys(database, work.register).of_org(record.id))[0]


async def rename(database: storage.Database, work: Administration, slug: str) -> None:
    key = await first_key(database, work, slug)
    await KeyChanges(work).change(key, slug, "key:1", name=token_hex(4), allowed_cidrs="10.0.0.0/8")


async def rotate(database: storage.Database, work: Administration, slug: str) -> None:
    """Rotate the first key; once more after an answer was lost, it is refused."""
    key = await first_key(database, work, slug)
    new, changes = NewKey(token_hex(8), "", b"n" * 32), KeyChanges(work)
    if key.row.rotated_to is None:
        await changes.rotate(key, new, slug, "key:1", overlap=timedelta(hours=1), may_last=False)
    key = await first_key(database, work, slug)
    successor = await ApiKeys(database, work.register).find(key.row.rotated_to or "")
    assert successor is not None
    assert (successor.row.name, successor.row.role) == (key.row.name, key.row.role)
    with pytest.raises(KeyEnded, match="was rotated before"):
        await changes.rotate(key, new, slug, "key:1", overlap=timedelta(0), may_last=False)


async def revoke(database: storage.Database, work: Administration, slug: str) -> None:
    key = await first_key(database, work, slug)
    assert await KeyChanges(work).revoke(key, slug) or key.row.revoked_at is not None


async def set_limits(database: storage.Database, work: Administration, slug: str) -> None:
    """Give an org limits of its own, and change them."""
    record = await orgs.org_by_slug(database, slug)
    assert record is not None
    org = OrgFacts(record.id, slug, False, record.wrapped_key)
    for most in (60, 600):
        asked = OrgRates(PerMinute(append=most), PerMinute(read=most))
        rates = await LimitChanges(work).set(org, asked)
        assert rates[:2] == asked[:2]


OF_KEYS = {"rename a key": rename, "rotate": rotate, "revoke": revoke}
ACTS = {"create": create, "change": change, "add a key": add_key, "limits": set_limits, **OF_KEYS}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
async def test_a_change_that_breaks_at_any_step_is_whole(
    shared_database: Database, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    async with at_work(shared_database) as (database, work):
        for step in steps_of(act):
            for after in (False, True):
                slug = f"org-{token_hex(4)}"
                org = await work.create_org(slug, "One", "plain")
                await KeyChanges(work).add(
                    AskedKey(token_hex(8), org.id, "k", "admin", b"h" * 32), slug
                )
                if step != AT_ONCE:
                    forget_the_end(work)
                with monkeypatch.context() as patched:
                    breaks = broken(patched, AppendTransaction, step, after=after)
                    await act(database, work, slug)
                    assert breaks == [step]
                await consistent(database)


async def test_a_change_that_can_not_be_made_leaves_neither_row_nor_entry(
    shared_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(shared_database) as (database, work):
        work.sequencer._committer._retry_s = 0.1
        slug = f"org-{token_hex(4)}"
        org = await work.create_org(slug, "One", "plain")
        await KeyChanges(work).add(AskedKey(token_hex(8), org.id, "k", "admin", b"h" * 32), slug)
        before = await consistent(database)
        for act in ACTS.values():
            for step in [step for step in steps_of(act)[:-1] if step != AT_ONCE]:
                forget_the_end(work)
                with monkeypatch.context() as patched:
                    broken(patched, AppendTransaction, step, after=False, times=10**9)
                    with pytest.raises(DatabaseUnavailable):
                        await act(database, work, slug)
        assert await consistent(database) == before


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("act", OF_KEYS.values(), ids=OF_KEYS.keys())
async def test_a_change_of_a_key_that_breaks_at_any_statement_is_whole(
    shared_database: Database, monkeypatch: pytest.MonkeyPatch, act: Act, *, after: bool
) -> None:
    async with at_work(shared_database) as (database, work):
        for number in count():
            slug = f"org-{token_hex(4)}"
            org = await work.create_org(slug, "One", "plain")
            await KeyChanges(work).add(
                AskedKey(token_hex(8), org.id, "k", "admin", b"h" * 32), slug
            )
            with monkeypatch.context() as patched:
                cuts = broken_statement(patched, number, after=after)
                await act(database, work, slug)
            await consistent(database)
            if not cuts:
                break
        assert number > 3


async def test_two_processes_change_rows_at_once(shared_database: Database) -> None:
    async with at_work(shared_database) as (database, work), at_work(shared_database) as (_, other):
        slug = f"org-{token_hex(4)}"
        await work.create_org(slug, "One", "plain")
        for name in ("a", "b", "c"):
            for one in (work, other):
                record = await orgs.org_by_slug(database, slug)
                assert record is not None
                await one.change_org(record.id, name=name, log_public=None)
        await consistent(database)


async def test_a_snapshot_spares_the_fold_and_an_older_one_changes_nothing(
    shared_database: Database,
) -> None:
    async with at_work(shared_database) as (database, work):
        slug = f"org-{token_hex(4)}"
        await work.create_org(slug, "One", "plain")
        assert await work.register.store_snapshot()
        await change(database, work, slug)
        assert await work.register.store_snapshot()
        await add_key(database, work, slug)
        counted = await consistent(database)
        await database.fetch("SELECT 1")
        async with at_work(shared_database) as (_, other):
            assert other.register.state.stored() == work.register.state.stored()
        assert await consistent(database) == counted
