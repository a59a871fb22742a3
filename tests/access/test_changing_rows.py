"""Changes of rows go together in one transaction, and one that comes alone is one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import Any

import asyncpg
import pytest

from ledger.core.register import ORGS
from ledger.core.sequencer.batch import Batch
from ledger.core.sequencer.outcome import BatchOutcome
from ledger.errors import OrgFrozen
from ledger.storage import database as storage
from ledger.storage import orgs
from ledger.storage.entries.heads import KnownEnd
from ledger.storage.entries.writing import with_change
from ledger.storage.row_changes import RowChange, RowImpossible
from ledger.storage.trail import AppendTransaction, CommitUnknown, HeadMove, settle
from server.access.administration import Administration, Conflict
from server.access.keys.api_keys import ApiKeys
from server.access.keys.changes import AskedKey, KeyChanges
from tests.support import blocks
from tests.support.appending import superuser
from tests.support.clusters import Database
from tests.support.orgs import at_work

SYSTEM = "(SELECT id FROM orgs WHERE slug = 'system')"


def slug() -> str:
    return f"org-{token_hex(4)}"


def counted(work: Administration, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of requests of the batches that are committed."""
    committer, sizes = work.sequencer._committer, list[int]()
    commit = committer.commit

    async def counting(batch: Batch) -> BatchOutcome:
        sizes.append(sum(len(turn.requests) for turn in batch.turns))
        return await commit(batch)

    monkeypatch.setattr(committer, "commit", counting)
    return sizes


async def made(database: storage.Database, work: Administration, name: str) -> bool:
    """Whether an org has its row and its entry; it has both or neither."""
    record = await orgs.org_by_slug(database, name)
    assert (record is not None) == work.register.has(ORGS, name)
    return record is not None and work.register.knows(ORGS, name, record.mac)


async def test_changes_that_wait_go_together_and_each_gets_its_own_answer(
    database_of_module: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(database_of_module) as (database, work):
        taken = (await work.create_org(slug(), "Taken", "plain")).slug
        sizes, names = counted(work, monkeypatch), [slug() for _ in range(9)]
        twice = names[3]
        answers = await asyncio.gather(
            *(work.create_org(name, "Org", "plain") for name in [*names, taken, twice]),
            return_exceptions=True,
        )
        assert sizes == [11], "what waits goes together"
        assert [answer.slug for answer in answers if not isinstance(answer, BaseException)] == names
        assert [type(answer) for answer in answers[9:]] == [Conflict, Conflict]
        shown = {name: await orgs.org_by_slug(database, name) for name in names}
        assert answers[:9] == [*shown.values()], "nothing was read for them"
        assert all([await made(database, work, name) for name in names])


async def test_kinds_of_changes_go_together(
    database_of_module: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(database_of_module) as (database, work):
        org = await work.create_org(slug(), "Org", "plain")
        key = AskedKey(token_hex(8), org.id, "k", "viewer", b"h" * 32)
        gone = AskedKey(token_hex(8), 2**40, "k", "viewer", b"h" * 32)
        sizes = counted(work, monkeypatch)
        answers = await asyncio.gather(
            work.change_org(org.id, name="One", log_public=None),
            work.change_org(org.id, name="Two", log_public=None),
            KeyChanges(work).add(key, org.slug),
            KeyChanges(work).add(gone, org.slug),
            work.create_org(slug(), "Org", "sealed"),
            return_exceptions=True,
        )
        changed = [answer for answer in answers[:2] if not isinstance(answer, Conflict)]
        assert all(isinstance(answer, orgs.OrgRecord) for answer in (*changed, answers[4]))
        assert changed, "of two changes of one row, the other is refused if it read the old one"
        assert isinstance(answers[3], Conflict), "a key of an org without a row"
        assert len(sizes) <= 3
        record = await orgs.org_by_id(database, org.id)
        assert record is not None
        assert record.name in {"One", "Two"}
        assert await made(database, work, org.slug)


async def test_a_change_alone_is_one_statement(
    database_of_module: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(database_of_module) as (database, work):
        first = slug()
        for name in (first, slug()):
            await work.create_org(name, "Org", "plain")

        async def refused(_: AppendTransaction) -> None:
            raise AssertionError("a transaction of several statements")

        with monkeypatch.context() as patched:
            patched.setattr(AppendTransaction, "begin", refused)
            names = [slug() for _ in range(3)]
            for name in names:
                await work.create_org(name, "Org", "plain")
        for name in names:
            assert await made(database, work, name)
        with pytest.raises(Conflict, match="is taken"):
            await work.create_org(first, "Org", "plain")


Tamper = Callable[[Any, int], Awaitable[Any]]


async def _move_back(connection: asyncpg.Connection[Any], org_id: int) -> None:
    await connection.execute("UPDATE heads SET seq = seq - 1 WHERE org_id = $1", org_id)


async def _freeze(connection: asyncpg.Connection[Any], org_id: int) -> None:
    await connection.execute("UPDATE heads SET frozen_reason = 'x' WHERE org_id = $1", org_id)


async def _alter_payload(connection: asyncpg.Connection[Any], org_id: int) -> None:
    seq = await connection.fetchval("SELECT seq FROM heads WHERE org_id = $1", org_id)
    await blocks.edit(connection, org_id, seq, payload=lambda _: b"{}")


async def _remove_last(connection: asyncpg.Connection[Any], org_id: int) -> None:
    seq = await connection.fetchval("SELECT seq FROM heads WHERE org_id = $1", org_id)
    await blocks.remove(connection, org_id, seq, seq)


@pytest.mark.parametrize("tamper", [_move_back, _freeze, _alter_payload, _remove_last])
async def test_one_statement_checks_the_head_as_a_transaction_does(
    database: Database, tamper: Tamper
) -> None:
    async with at_work(database) as (opened, work):
        for _ in range(3):
            await work.create_org(slug(), "Org", "plain")
        assert work.register.system_id is not None
        async with superuser(database) as connection:
            await tamper(connection, work.register.system_id)
        name = slug()
        with pytest.raises(OrgFrozen):
            await work.create_org(name, "Org", "plain")
        assert await orgs.org_by_slug(opened, name) is None


async def test_a_statement_that_arrives_after_its_outcome_was_read_writes_nothing(
    database_of_module: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection broke; the bytes were on their way. The change was made again meanwhile."""
    async with at_work(database_of_module) as (database, work):
        for _ in range(2):
            await work.create_org(slug(), "Org", "plain")
        late: list[tuple[RowChange, KnownEnd, Any]] = []
        arrived = asyncio.Event()

        async def lost(
            transaction: AppendTransaction, change: RowChange, end: KnownEnd, entry: Any
        ) -> None:
            late.append((change, end, entry))
            arrived.set()
            transaction.connection.terminate()
            raise CommitUnknown("the connection broke")

        name = slug()
        with monkeypatch.context() as patched:
            patched.setattr(AppendTransaction, "change_at_once", lost)
            creating = asyncio.create_task(work.create_org(name, "Org", "plain"))
            await arrived.wait()
            patched.undo()
            org = await creating
        assert org.slug == name
        async with database.connection() as connection:
            assert await with_change.write(connection, *late[0]) is None
        assert await made(database, work, name)


async def test_a_statement_that_is_found_lost_stays_lost(database_of_module: Database) -> None:
    """Between the reading of the outcome and the next attempt it must not take effect either."""
    async with at_work(database_of_module) as (database, work):
        for _ in range(2):
            await work.create_org(slug(), "Org", "plain")
        assert work.register.system_id is not None
        end = work.sequencer._tools.heads.known_end(work.register.system_id)
        assert end is not None
        move = HeadMove(end.org_id, end.head, end.head._replace(seq=end.head.seq + 1))
        assert not await settle(database.url, [move], may_arrive=True)
        row = await database.fetchrow(f"SELECT erasures FROM heads WHERE org_id = {SYSTEM}")
        assert row is not None
        assert row[0] == end.counts.erasures + 1
        name = slug()
        await work.create_org(name, "Org", "plain")
        assert await made(database, work, name)


async def test_a_row_that_the_database_refuses_holds_up_no_other(
    database_of_module: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(database_of_module) as (database, work):
        await work.create_org(slug(), "Org", "plain")
        names = [slug() for _ in range(5)]
        sizes = counted(work, monkeypatch)
        answers = await asyncio.gather(
            *(work.create_org(name, "Org", "plain") for name in names[:2]),
            work.create_org(names[2], "Org", "no such privacy"),
            *(work.create_org(name, "Org", "plain") for name in names[3:]),
            return_exceptions=True,
        )
        assert sizes == [5, 1, 1, 1, 1, 1], "each alone, without a pause"
        assert isinstance(answers[2], RowImpossible)
        written = [await made(database, work, name) for name in names]
        assert written == [True, True, False, True, True]


async def test_a_key_that_was_revoked_twice_is_refused_once(database_of_module: Database) -> None:
    async with at_work(database_of_module) as (database, work):
        org = await work.create_org(slug(), "Org", "plain")
        key = AskedKey(token_hex(8), org.id, "k", "viewer", b"h" * 32)
        await KeyChanges(work).add(key, org.slug)
        found = await ApiKeys(database, work.register).find(key.id)
        assert found is not None
        answers = await asyncio.gather(
            *(KeyChanges(work).revoke(found, org.slug) for _ in range(4))
        )
        assert sorted(answers) == [False, False, False, True]
