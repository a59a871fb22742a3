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
    source = await asyncpg.connect(server.database.superuser_url)
    target = await asyncpg.connect(migrated_database.superuser_url)
    try:
        for table in KEPT:
            rows = await source.fetch(f"SELECT * FROM {table}")
            await target.copy_records_to_table(table, records=[tuple(row) for row in rows])
    finally:
        await source.close()
        await target.close()
    assert (await restored(server, folder, migrated_database)).with_keys
    shown = await read(server, migrated_database, tmp_path / "again", sealed_records)
    texts = [entry["payload"]["text"] for entry in shown]
    assert texts == ["of Ada", "of Bob", "of nobody", "new"]
    assert [entry["subject"] for entry in shown] == ["Ada", "Bob", None, "Ada"]
