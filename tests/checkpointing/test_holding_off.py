"""Attack A2 (b) on a running server: its role can't hold the signer off without an alarm."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support import blocks
from tests.support.clusters import Database
from tests.support.quire_process import QuireProcess
from tests.support.signing import fetch
from tests.support.waiting import PATIENCE_S

OLD_LEADER_LOCK = 7_305_804_403
MODES = ("ACCESS EXCLUSIVE", "EXCLUSIVE", "SHARE ROW EXCLUSIVE", "SHARE", "ROW EXCLUSIVE")
TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('public', 'quire_signing', 'quire_retaining')
  AND NOT c.relispartition ORDER BY 1"""
HEAD = "SELECT seq, entry_hash, anchored_at FROM heads WHERE org_id = $1"


class Siege:
    """A running server with two orgs, and an attacker with the server's role."""

    def __init__(self, database: Database, server: QuireProcess, role: asyncpg.Connection[Any]):
        self.database = database
        self.server = server
        self.role = role
        self.slug, self._key = server.create_org("plain")
        self.other, self._other_key = server.create_org("plain")
        self.org_id = self.other_id = 0

    async def begin(self) -> None:
        rows = await fetch(self.database, "SELECT slug, id FROM orgs")
        orgs = {row[0]: row[1] for row in rows}
        self.org_id, self.other_id = orgs[self.slug], orgs[self.other]
        for slug in (self.slug, self.other):
            assert await self.append(slug) == 201
        await self.signed()

    async def append(self, slug: str) -> int:
        return await asyncio.to_thread(self._append, slug)

    def _append(self, slug: str) -> int:
        key = self._key if slug == self.slug else self._other_key
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE_S)
        headers = {"x-api-key": key, "content-type": "application/json"}
        connection.request("POST", f"/v1/orgs/{slug}/entries", json.dumps({"action": "x"}), headers)
        status = connection.getresponse().status
        connection.close()
        return status

    async def refused(self, statement: str, *args: object) -> bool:
        """Try a statement; True if it is refused."""
        try:
            await self.role.execute(statement, *args)
        except asyncpg.PostgresError:
            return True
        return False

    async def signed(self) -> None:
        """Wait until the org is signed to the end of its entries, whatever its head says."""
        deadline = time.monotonic() + PATIENCE_S
        while not await self._is_signed():
            assert time.monotonic() < deadline, "neither signed nor alarmed"
            await asyncio.sleep(0.02)

    async def _is_signed(self) -> bool:
        (row,) = await fetch(
            self.database,
            f"SELECT coalesce(max(size), 0) >= (SELECT max(last_seq) + 1 FROM {blocks.TABLE} "
            "WHERE org_id = $1) FROM checkpoints WHERE org_id = $1",
            self.org_id,
        )
        return bool(row[0])

    async def alarms(self, kind: str) -> int:
        (row,) = await fetch(
            self.database,
            "SELECT count(*) FROM security_events WHERE org_id = $1 AND kind = $2",
            self.org_id,
            kind,
        )
        return int(row[0])

    async def alarmed_and_refused(self) -> None:
        """Wait until there is an alarm of the org, and its appends are refused."""
        deadline = time.monotonic() + PATIENCE_S
        while not (await self.alarms("signing_late") and await self.append(self.slug) != 201):
            assert time.monotonic() < deadline, "neither signed nor alarmed"
            await asyncio.sleep(0.02)


@pytest.fixture
def server(database: Database, data_dir: Path) -> Iterator[QuireProcess]:
    """A server that raises its alarms within seconds."""
    yield from started(database, data_dir, "1", "1.5")


@pytest.fixture
def patient_server(database: Database, data_dir: Path) -> Iterator[QuireProcess]:
    """A server that raises no alarm while the machine is merely slow."""
    yield from started(database, data_dir, "600", "600")


def started(
    database: Database, data_dir: Path, event_s: str, limit_s: str
) -> Iterator[QuireProcess]:
    running = QuireProcess(data_dir, database.server_url)
    running.settings(
        QUIRE_CHECKPOINT_SECONDS="0.2",
        QUIRE_UNSIGNED_EVENT_SECONDS=event_s,
        QUIRE_UNSIGNED_LIMIT_SECONDS=limit_s,
    )
    running.start()
    yield running
    running.terminate()


@asynccontextmanager
async def besieged(database: Database, server: QuireProcess) -> AsyncIterator[Siege]:
    role = await asyncpg.connect(database.server_url)
    try:
        siege = Siege(database, server, role)
        await siege.begin()
        yield siege
    finally:
        await role.close()


async def _ends_sessions(siege: Siege) -> None:
    await siege.refused(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'quire_signer'"
    )
    await siege.refused(
        "SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.relation IS NOT NULL "
        "AND l.mode = 'ExclusiveLock'"
    )


async def _takes_locks(siege: Siege) -> None:
    await siege.role.execute("SELECT pg_advisory_lock($1)", OLD_LEADER_LOCK)
    for table in ("quire_signing.leader", "quire_signing.turn"):
        assert await siege.refused(f"BEGIN; LOCK TABLE {table} IN ACCESS SHARE MODE")
        await siege.role.execute("ROLLBACK")


async def _locks_tables(siege: Siege) -> None:
    """Each table in the strongest mode that it gets."""
    names = [row[0] for row in await fetch(siege.database, TABLES)]
    await siege.role.execute("BEGIN; SET LOCAL lock_timeout = '2s'")
    for name in names:
        for mode in MODES:
            await siege.role.execute("SAVEPOINT one")
            if not await siege.refused(f"LOCK TABLE {name} IN {mode} MODE"):
                break
            await siege.role.execute("ROLLBACK TO one")


async def _locks_rows(siege: Siege) -> None:
    """The rows of all orgs, and the heads of all but the one that appends."""
    await siege.role.execute("BEGIN")
    await siege.role.execute("SELECT FROM orgs FOR UPDATE")
    await siege.role.execute("SELECT FROM heads WHERE org_id <> $1 FOR UPDATE", siege.org_id)


async def _locks_the_head_of_a_damaged_org(siege: Siege) -> None:
    """The signer has to freeze that org, and can't; the others must be signed."""
    at = await siege.role.fetchval(
        "SELECT anchored_at FROM heads WHERE org_id = $1", siege.other_id
    )
    await siege.role.execute("BEGIN")
    await siege.role.execute("SELECT FROM heads WHERE org_id = $1 FOR UPDATE", siege.other_id)
    planter = await asyncpg.connect(siege.database.server_url)
    try:
        await planter.execute(
            f"INSERT INTO {blocks.TABLE} SELECT org_id, last_seq + 1, $2, first_seq + 1, last_hash, "
            f"raw_bytes, tags, ends, leaves, payloads FROM {blocks.TABLE} "
            "WHERE org_id = $1 ORDER BY last_seq DESC LIMIT 1",
            siege.other_id,
            at,
        )
    finally:
        await planter.close()
    # Readers still see the old head: the attacker's own update shows the planted block.
    await siege.role.execute("UPDATE heads SET seq = seq + 1 WHERE org_id = $1", siege.other_id)
    await siege.role.execute("COMMIT; BEGIN")
    await siege.role.execute("SELECT FROM heads WHERE org_id = $1 FOR UPDATE", siege.other_id)


async def _plants_ids_of_events(siege: Siege) -> None:
    """Ids that are used in advance would make the insert of each alarm fail."""
    assert await siege.refused(
        "INSERT INTO security_events (id, kind, detail) OVERRIDING SYSTEM VALUE "
        "SELECT n, 'x', 'x' FROM generate_series(1, 1000) n"
    )


async def _stops_trees(siege: Siege) -> None:
    stop = "UPDATE trees SET stopped_at = now() - interval '1 second'"
    assert await siege.refused(stop)


ATTACKS = (
    _ends_sessions,
    _takes_locks,
    _locks_tables,
    _locks_rows,
    _plants_ids_of_events,
    _stops_trees,
    _locks_the_head_of_a_damaged_org,
)


async def test_the_signer_goes_on(database: Database, patient_server: QuireProcess) -> None:
    async with besieged(database, patient_server) as siege:
        for attack in ATTACKS:
            await attack(siege)
            for _ in range(2):
                assert await siege.append(siege.slug) == 201, attack.__name__
                await siege.signed()
            await siege.role.execute("ROLLBACK")
        assert not await siege.alarms("signing_late")


async def test_freezing_by_the_row_raises_an_alarm(
    database: Database, server: QuireProcess
) -> None:
    """Frozen at each look of the signer, thawed for the appends: alarmed, then refused."""
    frozen = "UPDATE heads SET frozen_reason = $2, frozen_at = now() WHERE org_id = $1"
    async with besieged(database, server) as siege:
        await siege.role.execute(frozen, siege.org_id, None)
        assert await siege.append(siege.slug) == 201
        await siege.role.execute(frozen, siege.org_id, "x")
        if await siege._is_signed():
            return  # the signer was faster
        deadline = time.monotonic() + PATIENCE_S
        while not await siege.alarms("signing_late"):
            assert time.monotonic() < deadline, "no alarm"
            await asyncio.sleep(0.02)


async def test_a_head_set_back_after_each_append_raises_an_alarm(
    database: Database, server: QuireProcess
) -> None:
    """The signer does not see the entries; the worker that acknowledged them does."""
    back = "UPDATE heads SET seq = $2, entry_hash = $3, anchored_at = $4 WHERE org_id = $1"
    async with besieged(database, server) as siege:
        (head,) = await siege.role.fetch(HEAD, siege.org_id)
        assert await siege.append(siege.slug) == 201
        await siege.role.execute(back, siege.org_id, *head)
        if await siege._is_signed():
            return  # the signer was faster
        await siege.alarmed_and_refused()
