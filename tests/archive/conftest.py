"""Fixtures: a trail, and a folder target to archive it in."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger.archive.targets import Target, open_target
from ledger.archive.writing.writer import ArchiveWriter
from ledger.storage import orgs
from ledger.storage.database import Database as Pool
from tests.support.archives import SignedTrail, account_of, signed_trail
from tests.support.clusters import Database
from tests.support.serving import Server
from tests.support.signed_trees import SignedTrees


@pytest.fixture
async def archived_trail(database: Database, tmp_path: Path) -> AsyncIterator[SignedTrail]:
    """An org whose trail is empty."""
    async with signed_trail(database, tmp_path / "signed.sqlite") as archived:
        yield archived


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Target]:
    """An open folder target; its files are in `tmp_path / "archive"`."""
    async with open_target(f"file://{tmp_path}/archive") as target:
        await target.check()
        yield target


@pytest.fixture
async def sealed_records(server: Server, folder: Target) -> list[str]:
    """Record ids of three sealed events, signed and archived: on Ada, on Bob, and without a subject."""
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
        writer = ArchiveWriter(
            folder, database, server.services.keyring, account_of(database, folder)
        )
        await writer.archive(record)
        await writer.archive_anchors()
    finally:
        await database.close()
    return records
