"""Every step of the append transaction is broken twice: failed, and failed but took effect.

After each fault every caller has the right answer, and the trail has each acknowledged
entry once. Faults that need a double (a step that breaks its own connection) say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from ledger.core.org import OrgFacts
from ledger.core.sequencer import KeyDigest, SequencerLimits
from ledger.errors import DatabaseUnavailable, OutcomeUnknown, StorageError
from ledger.storage import database as storage
from ledger.storage import idempotency
from ledger.storage.trail import AppendTransaction, HeadConflict, NotWritten
from tests.support.appending import Process, new_org, process, sound_trail, superuser
from tests.support.broken_steps import broken
from tests.support.clusters import Database
from tests.support.proxy import CommitFate, Proxy

# In the order in which a batch takes them.
STEPS: list[tuple[Any, str]] = [
    (AppendTransaction, "begin"),
    (AppendTransaction, "lock_heads"),
    (AppendTransaction, "orgs_beyond"),
    (idempotency, "find"),
    (idempotency, "entries_of"),
    (AppendTransaction, "copy_entries"),
    (AppendTransaction, "move_heads"),
    (idempotency, "record"),
    (AppendTransaction, "commit"),
]
IDS = [name for _, name in STEPS]


def key(name: str) -> KeyDigest:
    return KeyDigest(name.encode().ljust(16, b"."), b"b" * 16)


async def mixed_load(shared_database: Database, first_process: Process, org: OrgFacts) -> None:
    """Append plain, keyed, replayed and effect requests of two orgs at once; all must succeed."""
    other = await new_org(first_process.database)
    answers = await asyncio.gather(
        first_process.append(org, b"keyed", idempotency=key("before")),
        first_process.append(org, b"a", b"b"),
        first_process.append(org, b"c", idempotency=key("c")),
        first_process.append(org, b"c", idempotency=key("c")),
        first_process.append(other, b"d", unique={0: key("d")}),
    )
    assert [[r.seq for r in answer.receipts()] for answer in answers] == [
        [0], [1, 2], [3], [3], [0],
    ]  # fmt: skip
    await first_process.append(org, b"e")
    assert await sound_trail(shared_database, org) == [b"keyed", b"a", b"b", b"c", b"e"]
    assert await sound_trail(shared_database, other) == [b"d"]
    assert first_process.sequencer.waiting_bytes == 0
    assert first_process.sequencer.healthy


@pytest.mark.parametrize("after", [False, True], ids=["failed", "failed but took effect"])
@pytest.mark.parametrize("step", STEPS, ids=IDS)
async def test_a_step_that_breaks_once_costs_no_caller_an_answer(
    shared_database: Database,
    first_process: Process,
    org: OrgFacts,
    monkeypatch: pytest.MonkeyPatch,
    step: tuple[Any, str],
    after: bool,
) -> None:
    await first_process.append(org, b"keyed", idempotency=key("before"))
    breaks = broken(monkeypatch, *step, after=after)
    await mixed_load(shared_database, first_process, org)
    assert breaks == [step[1]]


@pytest.mark.parametrize("step", STEPS[:-1], ids=IDS[:-1])
async def test_a_step_that_breaks_for_long_is_answered_as_not_written(
    shared_database: Database, org: OrgFacts, monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str]
) -> None:
    async with process(shared_database.server_url, limits=SequencerLimits(retry_s=0.1)) as one:
        await one.append(org, b"keyed", idempotency=key("before"))
        with monkeypatch.context() as patched:
            broken(patched, *step, after=False, times=10**9)
            requests = [
                one.append(org, b"lost", idempotency=key("lost")),
                one.append(org, b"keyed", idempotency=key("before")),
            ]
            for result in await asyncio.gather(*requests, return_exceptions=True):
                assert isinstance(result, DatabaseUnavailable)
        assert await sound_trail(shared_database, org) == [b"keyed"]
        assert not (await one.append(org, b"lost", idempotency=key("lost"))).replayed
        await one.append(org, b"more")
        assert await sound_trail(shared_database, org) == [b"keyed", b"lost", b"more"]


UNHELPFUL: list[Exception] = [
    DatabaseUnavailable("down"),
    StorageError("the login can't act as quire_server"),
    asyncpg.exceptions.TargetServerAttributeNotMatched("no primary"),
    OSError("unreachable"),
    NotWritten(asyncpg.LockNotAvailableError("lock timeout")),
    RuntimeError("a bug"),
]


@pytest.mark.parametrize("took_effect", [False, True])
async def test_an_unknown_outcome_is_asked_for_until_it_is_known(
    shared_database: Database,
    first_process: Process,
    org: OrgFacts,
    monkeypatch: pytest.MonkeyPatch,
    took_effect: bool,
) -> None:
    await first_process.append(org, b"keyed", idempotency=key("before"))
    troubles: Iterator[Exception] = iter(UNHELPFUL)
    connect = storage.connect

    async def troubled(url: str) -> Any:
        """A double of connecting: no real server gives all these errors in turn."""
        trouble = next(troubles, None)
        if trouble is not None:
            raise trouble
        return await connect(url)

    monkeypatch.setattr("ledger.storage.trail.connect", troubled)
    monkeypatch.setattr("ledger.core.sequencer.committing.committer.LONGEST_PAUSE_S", 0.01)
    broken(monkeypatch, AppendTransaction, "commit", after=took_effect)
    await mixed_load(shared_database, first_process, org)
    assert next(troubles, None) is None


async def test_an_outcome_that_contradicts_itself_is_called_unknown(
    shared_database: Database,
    first_process: Process,
    org: OrgFacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def contradicting(url: str, moves: Any, **_: bool) -> bool:
        """A double: only tampering at this exact moment would apply half a transaction."""
        raise HeadConflict("persisted for some orgs and absent for others")

    with monkeypatch.context() as patched:
        patched.setattr("ledger.core.sequencer.committing.committer.settle", contradicting)
        broken(patched, AppendTransaction, "commit", after=True)
        with pytest.raises(OutcomeUnknown):
            await first_process.append(org, b"a")
    await first_process.append(org, b"b")
    assert await sound_trail(shared_database, org) == [b"a", b"b"]


@pytest.mark.parametrize("cut", [cut for cut in CommitFate if cut is not CommitFate.NOT])
async def test_a_commit_cut_on_its_way_is_resolved(
    shared_database: Database, cut: CommitFate
) -> None:
    cuts = iter([CommitFate.NOT, cut, cut, cut])
    async with (
        Proxy(shared_database, lambda: next(cuts, CommitFate.NOT)) as proxy,
        process(proxy.url) as one,
    ):
        org = await new_org(one.database)
        await one.append(org, b"keyed", idempotency=key("before"))
        await mixed_load(shared_database, one, org)
        assert proxy.commits >= 3


async def test_an_org_that_breaks_its_transaction_stops_no_other(
    shared_database: Database,
    first_process: Process,
    org: OrgFacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = await new_org(first_process.database)
    await first_process.append(org, b"a")

    async def check(*args: Any) -> str | None:
        """A double for a bug that only one org's rows trigger."""
        if args[1] == org.id:
            raise RuntimeError("a bug")
        return None

    with monkeypatch.context() as patched:
        patched.setattr("ledger.core.sequencer.batch.head_fault", check)
        bad, good = (
            first_process.append_in_task(org, b"b"),
            first_process.append_in_task(other, b"c"),
        )
        with pytest.raises(RuntimeError):
            await bad
        assert (await good).head.seq == 0
    await first_process.append(org, b"d")
    assert await sound_trail(shared_database, org) == [b"a", b"d"]
    assert first_process.sequencer.waiting_bytes == 0


@pytest.mark.parametrize("when", ["DEFERRABLE INITIALLY DEFERRED", ""], ids=["commit", "before"])
@pytest.mark.parametrize(
    ("state", "message"), [("raise_exception", "can't do this now"), ("disk_full", "no disk space")]
)
async def test_an_error_of_postgresql_means_that_nothing_was_written(
    shared_database: Database, org: OrgFacts, when: str, state: str, message: str
) -> None:
    """A trigger raises the full disk's error; a deferred trigger fails inside COMMIT."""
    async with superuser(shared_database) as connection:
        await connection.execute(
            f"""
            CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF NEW.org_id = {org.id} THEN
                    RAISE 'refused' USING ERRCODE = '{state}';
                END IF;
                RETURN NULL;
            END $$;
            CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON heads {when}
                FOR EACH ROW EXECUTE FUNCTION refuse()"""
        )
    try:
        async with process(shared_database.server_url, limits=SequencerLimits(retry_s=0.1)) as one:
            other = await new_org(one.database)
            with pytest.raises(DatabaseUnavailable, match=message):
                await one.append(org, b"refused")
            await one.append(other, b"taken")
    finally:
        async with superuser(shared_database) as connection:
            await connection.execute("DROP TRIGGER refuse ON heads")
    assert await sound_trail(shared_database, org) == []
    assert await sound_trail(shared_database, other) == [b"taken"]
