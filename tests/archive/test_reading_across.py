"""A server gives the same answers before and after months were dropped from its database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ledger.archive.targets import Target
from ledger.keys import dump_keyring
from ledger.log_keys import dump_log_keys
from tests.support.archives import KEYS, SignedTrail
from tests.support.orgs import adopt
from tests.support.retaining import FEBRUARY, JANUARY, append_three_months, retaining, set_retention
from tests.support.serving import Server, start_server
from tests.support.trails import ORG, RING

QUERIES = (
    "limit=1000",
    "limit=7",
    "order=asc&limit=1000",
    "order=asc&limit=7",
    "actor=ada&limit=100",
    "actor=nobody",
    "subject=%C3%BC&order=asc&limit=100",
    "event_type=invoice.approved&limit=50",
    "event_type=nothing",
    "since=2026-01-05T12:00:00Z&until=2026-01-05T12:00:01Z",
    "since=2026-02-01T00:00:00Z&limit=10",
    "until=2026-02-05T12:00:00.000001Z&limit=300",
    "since=2026-03-05T12:00:00Z&order=asc",
)


@pytest.fixture
async def server(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> AsyncIterator[Server]:
    """A server on a trail of three months: 600 entries, 30, and 10."""
    await append_three_months(archived_trail, folder, 600, 30, 10)
    await adopt(archived_trail.database, ORG)
    data_dir = tmp_path / "server"
    data_dir.mkdir()
    for name, content in (
        ("signing-keys.json", dump_keyring(RING)),
        ("log-keys.json", dump_log_keys(KEYS)),
    ):
        (data_dir / name).write_bytes(content)
        (data_dir / name).chmod(0o600)
    running = await asyncio.to_thread(
        start_server,
        archived_trail.database,
        data_dir,
        audit_secret_key=None,
        archive_url=folder.url,
        checkpoints=False,
    )
    yield running
    await asyncio.to_thread(running.stop)


def pages(server: Server, query: str) -> list[dict[str, Any]]:
    """All entries that a query returns, collected page by page."""
    entries: list[dict[str, Any]] = []
    cursor = ""
    for _ in range(1_000):
        answer = server.request(
            "GET", f"/v1/orgs/{ORG}/entries?{query}{cursor}", key=server.platform_key
        )
        assert answer.status == 200, answer.body
        page = answer.json()
        entries += page["entries"]
        if page["next_cursor"] is None:
            return entries
        cursor = f"&cursor={page['next_cursor']}"
    raise AssertionError("the pages have no end")


def answers(server: Server, archived_trail: SignedTrail) -> dict[str, Any]:
    """The server's answers about some entries and about the whole trail."""
    said: dict[str, Any] = {query: pages(server, query) for query in QUERIES}
    listed = {entry["seq"]: entry["record_id"] for entry in said["limit=1000"]}
    assert sorted(listed) == list(range(640))
    for seq in (0, 1, 255, 256, 599, 600, 629, 630, 639):
        record = listed[seq]
        for path in (
            f"/v1/orgs/{ORG}/entries/{record}",
            f"/v1/orgs/{ORG}/entries/{record}/payload",
            f"/v1/orgs/{ORG}/entries/{record}/proof",
            f"/admin/compliance/verify/{record}",
        ):
            answer = server.request("GET", path, key=server.platform_key)
            assert answer.status == 200, (path, answer.body)
            said[path] = answer.body
    for tile in ("0/000", "0/002.p/128", "entries/000", "entries/001", "entries/002.p/128"):
        path = f"/v1/orgs/{ORG}/log/tile/{tile}"
        answer = server.request("GET", path, key=server.platform_key)
        assert answer.status == 200, (path, answer.body)
        said[path] = answer.body
    for asked in (
        {"from_seq": 250, "to_seq": 639},
        {"record_ids": [listed[3], listed[635]]},
        {"filter": {"event_type": "invoice.approved", "until": "2026-02-20T00:00:00Z"}},
    ):
        answer = server.request("POST", f"/v1/orgs/{ORG}/bundles", asked, key=server.platform_key)
        assert answer.status == 200, answer.body
        said[json.dumps(asked)] = answer.body
    return said


async def test_the_same_answers(
    server: Server, archived_trail: SignedTrail, folder: Target
) -> None:
    before = await asyncio.to_thread(answers, server, archived_trail)
    await set_retention(archived_trail, 1)
    async with retaining(archived_trail, folder) as retention:
        for month in (JANUARY, FEBRUARY):
            assert await retention.drop_month(month) is not None
    after = await asyncio.to_thread(answers, server, archived_trail)
    for asked, said in before.items():
        assert after[asked] == said, asked
    job = await asyncio.to_thread(
        server.request,
        "POST",
        f"/v1/orgs/{ORG}/verifications?wait=60",
        key=server.platform_key,
    )
    verdict = job.json()
    assert (verdict["valid"], verdict["faults"]) == (True, [])
    assert verdict["result"]["verified_entries"] == 640


async def test_entries_of_an_altered_archive_are_not_returned(
    server: Server, archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    await set_retention(archived_trail, 1)
    async with retaining(archived_trail, folder) as retention:
        await retention.drop_month(JANUARY)
    listed = await asyncio.to_thread(pages, server, "order=asc&limit=1000")
    for key, text in (("tile/entries/000", b"approve"), ("payloads/001/000-255", b"payload 300")):
        path = tmp_path / "archive" / ORG / key
        path.chmod(0o600)
        data = path.read_bytes()
        path.write_bytes(data.replace(text, text[:-1] + b"X", 1))
    for seq, status in ((0, 503), (300, 503), (301, 200), (600, 200)):
        record = listed[seq]["record_id"]
        answer = await asyncio.to_thread(
            server.request, "GET", f"/v1/orgs/{ORG}/entries/{record}", key=server.platform_key
        )
        assert answer.status == status, seq
