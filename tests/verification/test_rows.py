"""Rows that decide: each column of each declared table is altered, rows are exchanged and made up.

Each time a full verification names the table, and nothing else is wrong. What each row decides, and
what a server does that meets such a row, is tested where the row is read (docs/database.md).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Final

import asyncpg
import pytest

from ledger import sealing
from ledger.chain import TrailFault
from ledger.core.org import OrgFacts
from ledger.core.sealing.opener import closed_people
from ledger.core.sealing.sealer import Sealer, new_org_key
from ledger.core.verification.run import TrailRange, verify_trail
from ledger.core.verification.work.row_check import RowTrust, check_rows
from ledger.core.verification.work.tally import Tally
from ledger.event import Event, EventFields
from ledger.rows import Value
from ledger.storage.copy_out import open_snapshot
from ledger.storage.database import Database
from ledger.storage.judged_rows import JUDGED, JudgedTable
from ledger.storage.orgs import ORGS
from tests.support import clusters
from tests.support.archives import HISTORY
from tests.support.trails import RING

MASTER_KEY: Final = bytes(range(32))
ROW_KEY: Final = sealing.row_key(MASTER_KEY)
STATEMENTS: Final = HISTORY.encoded_statements()
ORG, OTHER = OrgFacts(7, "acme", True, new_org_key(MASTER_KEY, "acme")), 10
SYSTEM: Final = 9
MOVED: Final = 8
"""The number of an org that a changed row has."""
NOW: Final = datetime(2026, 7, 3, 12, tzinfo=UTC)
TODAY: Final = datetime.now(UTC).date()

ROWS: Final[dict[str, tuple[Value, ...]]] = {
    "orgs": (ORG.id, ORG.slug, "Acme", "sealed", ORG.wrapped_key, False, 0, 0, 0, 0),
    "api_keys": (
        "0123456789abcdef", ORG.id, "k", "viewer", b"s" * 32, NOW, "server", NOW, "10.0.0.0/8",
        None, None,
    ),
    "org_limits": (ORG.id, 60, 0, 0, 600, 0, 5),
    "accepted_doubts": (ORG.id, 3, "trail_shortened", NOW, "0123456789abcdef"),
    "register_snapshots": (5, b"h" * 32, b"s"),
    "idempotency": (ORG.id, b"k" * 16, TODAY, b"b" * 16, 3, 1, None, NOW, b"h" * 32),
    "verifications": (
        "ver_1", ORG.id, None, None, "done", 3, 3, 0, "[]", "{}", None, NOW, NOW,
    ),
    "archived": ("file:///a", ORG.id, 3, 1, b"r" * 32, 5, 99, NOW),
    "archived_attestations": ("file:///a", "token", 2, "", NOW),
    "departed": (ORG.id, 0, 2, NOW, NOW, b"h" * 32, date(2026, 7, 1), "file:///a", 4),
    "quota_uses": (ORG.id, date(2026, 7, 1), 5, 99, 80),
    "pending_acts": (b"i" * 16, ORG.id, "read", NOW, b"b"),
    "acknowledged_events": (4, ORG.id, NOW, "0123456789abcdef", "looked at"),
    "address_blocks": (
        b"d" * 16, "0123456789abcdef", "192.0.2.0/24", "tries keys", "operator", NOW, NOW, 1, NOW,
        "operator",
    ),
}  # fmt: skip
"""A right row of each table, by the columns that its MAC covers."""
BESIDE: Final = {
    "verifications": {"owner": "'here'"},
    "departed": {"entries": "3"},
}
"""Columns that decide nothing and have no default."""
CHECKED: Final = {
    "role": "'admin'", "verifications.state": "'failed'", "kind": "'cosignature'",
    "privacy": "'plain'", "root": "decode(repeat('01', 32), 'hex')",
}  # fmt: skip
"""Another value, where the schema permits only some."""
ALTERED: Final = {
    "text": "coalesce({0}, '') || 'x'",
    "bytea": "{0} || '\\x00'",
    "bigint": "coalesce({0}, 4) + 1",
    "integer": "{0} + 1",
    "smallint": "{0} + 1",
    "boolean": "NOT {0}",
    "date": "{0} + 1",
    "timestamp with time zone": "coalesce({0}, now()) + interval '1 microsecond'",
    "ARRAY": "ARRAY[5]",
}
COLUMNS: Final = [
    pytest.param(judged, column, id=f"{judged.table.name}-{column}")
    for judged in JUDGED
    for column in (*judged.table.columns, "mac")
]
TABLES: Final = [pytest.param(judged, id=judged.table.name) for judged in JUDGED]


class Rows:
    """A database with one right row of each table, changed in a transaction that is undone."""

    def __init__(self, database: clusters.Database, owner: asyncpg.Connection) -> None:
        self.database = database
        self.owner = owner

    async def faults(self, org_id: int = ORG.id, slug: str = ORG.slug) -> dict[str, list[str]]:
        """The faults of the check by kind, after whose table they are named."""
        url = self.database.server_url
        trust = RowTrust(
            ROW_KEY, lambda org, rows: closed_people(MASTER_KEY, org, rows), STATEMENTS
        )
        async with open_snapshot(url) as snapshot:
            found = await check_rows(url, snapshot.name, org_id, slug, trust)
        tally = Tally(0, -1)
        found.add_to(tally)
        named: dict[str, list[str]] = {}
        for fault in tally.faults:
            assert fault.seq == -1
            named.setdefault(fault.kind, []).append(_table_of(fault))
        return named

    async def everywhere(self) -> list[str]:
        """The tables with rows that are not authentic, of any org."""
        orgs = {ORG.id: ORG.slug, OTHER: "other", SYSTEM: "system", MOVED: "moved"}
        named = [await self.faults(org_id, slug) for org_id, slug in orgs.items()]
        assert all(set(kinds) <= {"row_not_authentic"} for kinds in named)
        return sorted({table for kinds in named for table in kinds.get("row_not_authentic", [])})

    async def insert(self, judged: JudgedTable, row: tuple[Value, ...], mac: bytes) -> None:
        table = judged.table
        beside = BESIDE.get(table.name, {})
        places = ", ".join(f"${at}" for at in range(1, len(row) + 2))
        columns = ", ".join((*table.columns, "mac", *beside))
        values = ", ".join((places, *beside.values()))
        await self.owner.execute(
            f"INSERT INTO {table.name} ({columns}) VALUES ({values})", *row, mac
        )

    async def type_of(self, table: str, column: str) -> str:
        found: str = await self.owner.fetchval(
            "SELECT data_type FROM information_schema.columns "
            "WHERE table_schema = 'public' AND table_name = $1 AND column_name = $2",
            table,
            column,
        )
        return found

    @asynccontextmanager
    async def changed(
        self, judged: JudgedTable, change: str, *values: Value
    ) -> AsyncIterator[None]:
        """Run one statement on a table during the block, then put its rows back."""
        name = judged.table.name
        before = await self.owner.fetch(f"SELECT * FROM {name}")
        try:
            await self.owner.execute(change, *values)
            yield
        finally:
            await self.owner.execute(f"DELETE FROM {name}")
            await self.owner.executemany(
                f"INSERT INTO {name} VALUES ({', '.join(f'${n + 1}' for n in range(len(before[0])))})",
                [tuple(row) for row in before],
            )


def _table_of(fault: TrailFault) -> str:
    return fault.reason.removeprefix("rows of table ").partition(" ")[0]


@pytest.fixture(scope="module")
def right_rows(postgres_cluster: clusters.Cluster) -> Iterator[clusters.Database]:
    database = postgres_cluster.migrated()
    clusters.blocking(filled(database))
    yield database
    postgres_cluster.drop(database)


@pytest.fixture
async def rows(right_rows: clusters.Database) -> AsyncIterator[Rows]:
    async with opened(right_rows) as made:
        yield made


@asynccontextmanager
async def opened(database: clusters.Database) -> AsyncIterator[Rows]:
    owner = await asyncpg.connect(database.superuser_url)
    await owner.execute("SET session_replication_role = replica")
    try:
        yield Rows(database, owner)
    finally:
        await owner.close(timeout=5)


async def filled(database: clusters.Database) -> None:
    async with opened(database) as made:
        # The test alters each column by itself.
        await made.owner.execute("ALTER TABLE departed DROP CONSTRAINT departed_whole")
        for day in (TODAY, TODAY + timedelta(days=1)):
            await made.owner.execute("SELECT quire_create_idempotency_partition($1)", day)
        await made.owner.execute(
            "INSERT INTO log_keys (position, statement) VALUES (0, $1)", STATEMENTS[0]
        )
        for judged in JUDGED:
            row = ROWS[judged.table.name]
            await made.insert(judged, row, judged.table.mac(ROW_KEY, *row))
            if judged.table == ORGS:
                for org_id, slug in ((OTHER, "other"), (SYSTEM, "system")):
                    other = (org_id, slug, "", "plain", b"", False, 0, 0, 0, 0)
                    await made.insert(judged, other, ORGS.mac(ROW_KEY, *other))
    await persons(database)


async def persons(database: clusters.Database) -> None:
    opened = await Database.open(database.server_url, size=2)
    try:
        events = [
            Event(EventFields(event_type="note", subject=name), os.urandom(4))
            for name in ("anna", "bert")
        ]
        await Sealer(opened, MASTER_KEY).draft(ORG, events)
    finally:
        await opened.close()


async def test_every_table_has_a_sample_row_and_all_rows_are_right(rows: Rows) -> None:
    assert ROWS.keys() == {judged.table.name for judged in JUDGED}
    assert await rows.everywhere() == []


@pytest.mark.parametrize(("judged", "column"), COLUMNS)
async def test_a_changed_column_is_a_fault_of_its_table(
    rows: Rows, judged: JudgedTable, column: str
) -> None:
    name = judged.table.name
    altered = (
        CHECKED.get(f"{name}.{column}")
        or CHECKED.get(column)
        or ALTERED[await rows.type_of(name, column)].format(column)
    )
    if column == "org_id":
        altered = str(OTHER)
    where = f" WHERE id = {ORG.id}" if name == "orgs" else ""
    async with rows.changed(judged, f"UPDATE {name} SET {column} = {altered}{where}"):
        assert await rows.everywhere() == [name]


@pytest.mark.parametrize("judged", TABLES)
@pytest.mark.parametrize("time", ["infinity", "0044-03-15 BC", "9999-12-31"])
async def test_times_that_python_can_not_hold_are_faults(
    rows: Rows, judged: JudgedTable, time: str
) -> None:
    for column in judged.table.times:
        if column == "revoked_at":
            continue  # NULL in the sample: such a time reads as NULL too, and decides nothing else
        change = f"UPDATE {judged.table.name} SET {column} = '{time}'"
        async with rows.changed(judged, change):
            assert await rows.everywhere() == [judged.table.name]


ANOTHER: Final[dict[str, dict[int, Value]]] = {
    "orgs": {0: MOVED, 1: "moved", 3: "plain", 4: b""},
    "api_keys": {0: "fedcba9876543210"},
    "accepted_doubts": {1: 7},
    "register_snapshots": {0: 7},
    "idempotency": {2: TODAY + timedelta(days=1)},
    "verifications": {0: "ver_2"},
    "departed": {1: 3, 2: 5},
    "quota_uses": {0: OTHER},
    "org_limits": {0: OTHER},
    "acknowledged_events": {0: 5},
    "pending_acts": {0: b"j" * 16},
    "address_blocks": {0: b"e" * 16},
}
"""What another row of a table has in the place of some values, by their index."""


@pytest.mark.parametrize("judged", TABLES)
async def test_the_mac_of_one_row_serves_no_other(rows: Rows, judged: JudgedTable) -> None:
    """A second right row is added, and the two exchange their MACs."""
    table = judged.table
    row: list[Value] = list(ROWS[table.name])
    for at, value in ANOTHER.get(table.name, {2: 7}).items():
        row[at] = value
    other = tuple(row)
    exchange = f"UPDATE {table.name} SET mac = CASE mac WHEN $1::bytea THEN $2::bytea ELSE $1 END"
    macs = table.mac(ROW_KEY, *ROWS[table.name]), table.mac(ROW_KEY, *other)
    async with rows.changed(judged, "SELECT 1"):
        await rows.insert(judged, other, macs[1])
        assert await rows.everywhere() == []
        await rows.owner.execute(exchange, *macs)
        assert await rows.everywhere() == [table.name]


@pytest.mark.parametrize("judged", TABLES)
async def test_a_removed_row_is_no_other_decision(rows: Rows, judged: JudgedTable) -> None:
    async with rows.changed(judged, f"DELETE FROM {judged.table.name}"):
        assert await rows.everywhere() == []


PEOPLE: Final = {
    "lookup": "lookup = lookup || '\\x00'",
    "ref": "ref = ref || 'x'",
    "wrapped_key": "wrapped_key = wrapped_key || '\\x00'",
    "name": "name = name || '\\x00'",
    "another's name": "name = (SELECT name FROM subjects ORDER BY ref LIMIT 1)",
    "another's key": "wrapped_key = (SELECT wrapped_key FROM subjects ORDER BY ref LIMIT 1)",
}


@pytest.mark.parametrize("change", PEOPLE.values(), ids=PEOPLE.keys())
async def test_a_changed_person_is_a_fault(rows: Rows, change: str) -> None:
    before = await rows.owner.fetch("SELECT * FROM subjects")
    where = "ref = (SELECT max(ref) FROM subjects)"
    await rows.owner.execute(f"UPDATE subjects SET {change} WHERE {where}")
    assert (await rows.faults()) == {"row_not_authentic": ["subjects"]}
    await rows.owner.execute("DELETE FROM subjects")
    await rows.owner.executemany(
        "INSERT INTO subjects VALUES ($1, $2, $3, $4, $5, $6)", [tuple(row) for row in before]
    )
    assert await rows.faults() == {}


LOG_KEYS: Final = {
    "planted": ("INSERT INTO log_keys (position, statement) VALUES (1, 'x')", "row_not_authentic"),
    "far": ("INSERT INTO log_keys (position, statement) VALUES (-5, '')", "row_not_authentic"),
    "changed": ("UPDATE log_keys SET statement = statement || '\\x20'", "row_not_authentic"),
    "removed": ("DELETE FROM log_keys", "row_missing"),
}


@pytest.mark.parametrize(("change", "kind"), LOG_KEYS.values(), ids=LOG_KEYS.keys())
async def test_a_changed_log_key_is_a_fault(rows: Rows, change: str, kind: str) -> None:
    await rows.owner.execute(
        "INSERT INTO checkpoints (org_id, size, root, note) "
        "VALUES (7, 0, decode(repeat('00', 32), 'hex'), '') ON CONFLICT DO NOTHING"
    )
    try:
        await rows.owner.execute(change)
        assert await rows.faults() == {kind: ["log_keys"]}
    finally:
        await rows.owner.execute("DELETE FROM log_keys")
        await rows.owner.execute("DELETE FROM checkpoints")
        await rows.owner.execute(
            "INSERT INTO log_keys (position, statement) VALUES (0, $1)", STATEMENTS[0]
        )


async def test_a_full_verification_has_the_check(rows: Rows) -> None:
    trust = RowTrust(ROW_KEY, lambda org, some: closed_people(MASTER_KEY, org, some), STATEMENTS)
    target = TrailRange(OTHER, "other")
    url = rows.database.server_url
    result = await verify_trail(url, target, RING, rows=trust, processes=1)
    assert result.checks.rows is True
    judged = next(one for one in JUDGED if one.table.name == "api_keys")
    async with rows.changed(judged, f"UPDATE api_keys SET org_id = {OTHER}, role = 'admin'"):
        result = await verify_trail(url, target, RING, rows=trust, processes=1)
        assert (result.verdict, result.checks.rows) == ("refuted", False)
        blind = await verify_trail(url, target, RING, processes=1)
        assert blind.checks.rows == "not_checked"
