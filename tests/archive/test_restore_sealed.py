"""A sealed org is restored: its trail from the archive, its keys only from a backup."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ledger.archive.targets import Target
from tests.support.clusters import Cluster, Database
from tests.support.restoring import restored
from tests.support.serving import Server, start_server

KEPT = ("orgs", "subjects")
"""The tables of a backup without entries: a few kilobytes."""


@pytest.fixture
def migrated_database(postgres_cluster: Cluster) -> Iterator[Database]:
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


async def read(
    server: Server, database: Database, data_dir: Path, records: list[str]
) -> list[dict[str, Any]]:
    """The entries as a new server returns them, and one entry appended after them."""
    again = await asyncio.to_thread(start_server, database, data_dir, checkpoints=False)
    try:
        path = f"/v1/orgs/{server.org}/entries"
        shown = []
        for record in records:
            answer = await asyncio.to_thread(
                again.request, "GET", f"{path}/{record}/payload", key=again.platform_key
            )
            if answer.status != 200:
                assert answer.status == 409, answer.body
                assert "was not restored" in answer.json()["detail"]
            answer = await asyncio.to_thread(
                again.request, "GET", f"{path}/{record}", key=again.platform_key
            )
            assert answer.status == 200, answer.body
            shown.append(answer.json())
        event = {"event_type": "note", "subject": "Ada", "text": "new"}
        answer = await asyncio.to_thread(again.request, "POST", path, event, key=again.platform_key)
        assert answer.status == 201, answer.body
        answer = await asyncio.to_thread(
            again.request,
            "GET",
            f"{path}/{answer.json()['record_id']}",
            key=again.platform_key,
        )
        shown.append(answer.json())
    finally:
        await asyncio.to_thread(again.stop)
    return shown


async def keep_keys(server: Server, to: Database) -> None:
    """Bring the tables of a backup into another database."""
    source = await asyncpg.connect(server.database.superuser_url)
    target = await asyncpg.connect(to.superuser_url)
    try:
        for table in KEPT:
            rows = await source.fetch(f"SELECT * FROM {table}")
            await target.copy_records_to_table(table, records=[tuple(row) for row in rows])
    finally:
        await source.close()
        await target.close()


async def add_event(server: Server, database: Database) -> int:
    """Store an older security event of the org; return its number."""
    url = database.superuser_url
    connection = await asyncpg.connect(url)
    try:
        number: int = await connection.fetchval(
            "INSERT INTO security_events (at, org_id, kind, detail) "
            "SELECT now() - interval '1 hour', id, 'made_up', $2 FROM orgs WHERE slug = $1 RETURNING id",
            server.org,
            url,
        )
    finally:
        await connection.close()
    return number


async def verify(one: Server, org: str) -> Any:
    """The result of a full verification, which seals the events that are due."""
    path = f"/v1/orgs/{org}/verifications?wait=60"
    answer = await asyncio.to_thread(one.request, "POST", path, {}, key=one.platform_key)
    assert answer.status == 200, answer.body
    return answer.json()["result"]


@pytest.fixture
async def event_before(server: Server) -> int:
    """The number of an event that the first entry of the trail seals."""
    number = await add_event(server, server.database)
    found = await verify(server, server.org)
    assert found["checks"]["security_events"] is True
    return number


async def test_events_that_did_not_come_back_are_not_called_removed(
    event_before: int,
    server: Server,
    sealed_records: list[str],
    folder: Target,
    migrated_database: Database,
    tmp_path: Path,
) -> None:
    assert len(sealed_records) == 3
    await keep_keys(server, migrated_database)
    await restored(server, folder, migrated_database)
    again = await asyncio.to_thread(
        start_server, migrated_database, tmp_path / "again", checkpoints=False
    )
    try:
        found = await verify(again, server.org)
        assert (found["checks"]["security_events"], found["errors"]) == ("not_checked", [])
        assert "came back from its archive" in found["reasons"]["security_events"]
        # The new database gives the numbers again, from 1 on.
        new = [await add_event(server, migrated_database) for _ in range(event_before)]
        assert event_before in new
        found = await verify(again, server.org)
        assert (found["checks"]["security_events"], found["errors"]) == ("not_checked", [])
        owner = await asyncpg.connect(migrated_database.superuser_url)
        await owner.execute("DELETE FROM security_events WHERE id = $1", new[-1])
        await owner.close()
        (fault,) = (await verify(again, server.org))["errors"]
        assert fault["kind"] == "event_missing"
        assert fault["reason"].startswith(f"security event {new[-1]} was removed")
    finally:
        await asyncio.to_thread(again.stop)


async def test_without_a_backup_sealed_payloads_stay_sealed(
    server: Server,
    sealed_records: list[str],
    folder: Target,
    migrated_database: Database,
    tmp_path: Path,
) -> None:
    assert not (await restored(server, folder, migrated_database)).with_keys
    shown = await read(server, migrated_database, tmp_path / "again", sealed_records)
    assert [entry["payload"] for entry in shown[:3]] == [None] * 3
    assert [entry["erased"] for entry in shown] == [False] * 4
    assert [entry["key_not_restored"] for entry in shown] == [True, True, True, False]
    assert shown[3]["payload"]["text"] == "new"
    assert shown[3]["seq"] == 3


async def test_with_the_keys_of_a_backup_it_opens(
    server: Server,
    sealed_records: list[str],
    folder: Target,
    migrated_database: Database,
    tmp_path: Path,
) -> None:
    await keep_keys(server, migrated_database)
    assert (await restored(server, folder, migrated_database)).with_keys
    shown = await read(server, migrated_database, tmp_path / "again", sealed_records)
    texts = [entry["payload"]["text"] for entry in shown]
    assert texts == ["of Ada", "of Bob", "of nobody", "new"]
    assert [entry["subject"] for entry in shown] == ["Ada", "Bob", None, "Ada"]
