"""A sealed org comes back: its trail from the archive, its keys from a backup or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ledger.archive.restore.run import Means, Restore, Restored
from ledger.archive.targets import Target
from ledger.archive.writing.writer import ArchiveWriter
from ledger.core.sealing.sealer import new_org_key
from ledger.storage import orgs
from ledger.storage.database import Database as Pool
from tests.support.clusters import Cluster, Database
from tests.support.serving import MASTER_KEY, Server, start_server
from tests.support.signed_trees import KEYS, SignedTrees

KEPT = ("orgs", "subjects")
"""Tables that a backup keeps, without any entry: some kilobytes."""


@pytest.fixture
def empty(postgres_cluster: Cluster) -> Iterator[Database]:
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


@pytest.fixture
async def archived(server: Server, folder: Target) -> list[str]:
    """Record ids of three sealed events, signed and archived: about Ada, Bob, and nobody."""
    records = []
    for event in (
        {"event_type": "note", "subject": "Ada", "text": "of Ada"},
        {"event_type": "note", "subject": "Bob", "text": "of Bob"},
        {"event_type": "note", "text": "of nobody"},
    ):
        answer = await asyncio.to_thread(
            server.request, "POST", f"/v1/orgs/{server.org}/entries", event, key=server.admin_key
        )
        assert answer.status == 201, answer.body
        records.append(answer.json()["record_id"])
    signed = SignedTrees(server)
    await asyncio.to_thread(signed.anchor)
    await asyncio.to_thread(signed.sign)
    await asyncio.to_thread(signed.anchor)
    assert server.services is not None
    database = await Pool.open(server.database.server_url, size=2)
    try:
        record = await orgs.org_by_slug(database, server.org)
        assert record is not None
        writer = ArchiveWriter(folder, database, server.services.keyring)
        await writer.archive(record)
        await writer.archive_anchors()
    finally:
        await database.close()
    return records


async def restored(server: Server, folder: Target, database: Database) -> Restored:
    assert server.services is not None
    means = Means(
        server.services.keyring(False),
        KEYS.public().pins(),
        lambda slug: new_org_key(bytes.fromhex(MASTER_KEY), slug),
    )
    (one,) = await Restore(folder, database.owner_url, means).run([server.org])
    return one


async def read(
    server: Server, database: Database, data_dir: Path, records: list[str]
) -> list[dict[str, Any]]:
    """The entries as a new server shows them, and one appended after them."""
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


async def test_without_a_backup_what_was_sealed_stays_sealed(
    server: Server, archived: list[str], folder: Target, empty: Database, tmp_path: Path
) -> None:
    assert not (await restored(server, folder, empty)).with_keys
    shown = await read(server, empty, tmp_path / "again", archived)
    assert [entry["payload"] for entry in shown[:3]] == [None] * 3
    assert [entry["erased"] for entry in shown] == [False] * 4
    assert [entry["key_not_restored"] for entry in shown] == [True, True, True, False]
    assert shown[3]["payload"]["text"] == "new"
    assert shown[3]["seq"] == 3


async def test_with_the_keys_of_a_backup_it_opens(
    server: Server, archived: list[str], folder: Target, empty: Database, tmp_path: Path
) -> None:
    source = await asyncpg.connect(server.database.superuser_url)
    target = await asyncpg.connect(empty.superuser_url)
    try:
        for table in KEPT:
            rows = await source.fetch(f"SELECT * FROM {table}")
            await target.copy_records_to_table(table, records=[tuple(row) for row in rows])
    finally:
        await source.close()
        await target.close()
    assert (await restored(server, folder, empty)).with_keys
    shown = await read(server, empty, tmp_path / "again", archived)
    texts = [entry["payload"]["text"] for entry in shown]
    assert texts == ["of Ada", "of Bob", "of nobody", "new"]
    assert [entry["subject"] for entry in shown] == ["Ada", "Bob", None, "Ada"]
