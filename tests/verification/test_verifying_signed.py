"""A complete server verifies its own signed trees, with its key file and the signer's memory."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from server.cli.main import main
from tests.support.blocks import cut, point_head_at
from tests.support.clusters import Database, blocking
from tests.support.quire_process import QuireProcess
from tests.support.tampering import change, statement, steps, tamper

SIGNED_S = 40.0
OWN, OTHER = 13, 17
"""Entries of the orgs: more than the trail `system` has here."""
UNCHECKED = dict.fromkeys(
    ("external_time", "witnesses", "search_index", "security_events"), "not_checked"
)


@pytest.fixture
def server(
    database: Database, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[QuireProcess]:
    running = QuireProcess(data_dir, database.server_url)
    running._environ["QUIRE_ANCHOR_SECONDS"] = "0.2"
    running.start()
    yield running
    if running.process.poll() is None:
        running.terminate()


def call(server: QuireProcess, key: str, path: str, body: object = None) -> Any:
    request = urllib.request.Request(
        server.url + path,
        None if body is None else json.dumps(body).encode(),
        {"x-api-key": key, "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=70) as answer:
        return json.load(answer)


def verify(server: QuireProcess, slug: str, key: str) -> Any:
    job = call(server, key, f"/v1/orgs/{slug}/verifications?wait=60", {})
    assert job["state"] == "done", job
    return job["result"]


async def anchored(database: Database, size: int = OWN) -> bool:
    """Whether an anchor covers a checkpoint of so many entries; no other trail has as many."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        return bool(
            await connection.fetchval(
                "SELECT EXISTS (SELECT FROM anchor_leaves a JOIN checkpoints c "
                "ON c.org_id = 0 AND c.size > a.idx WHERE a.size = $1)",
                size,
            )
        )
    finally:
        await connection.close()


def test_a_trail_and_an_entry_are_verified_against_the_signed_tree(
    database: Database, server: QuireProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    slug, key = server.create_org("sealed")
    events = [{"action": "approve", "n": n} for n in range(OWN)]
    receipts = call(server, key, f"/v1/orgs/{slug}/entries", events)["entries"]
    deadline = time.monotonic() + SIGNED_S
    while not blocking(anchored(database)):
        assert time.monotonic() < deadline, "nothing was anchored"
        time.sleep(0.1)
    result = verify(server, slug, key)
    assert result["valid"] is True
    assert result["checks"] == dict.fromkeys(result["checks"], True) | UNCHECKED
    one = call(server, key, f"/admin/compliance/verify/{receipts[1]['record_id']}")
    assert one["checks"] == dict.fromkeys(one["checks"], True)
    assert one["checks"]["included"] is True
    monkeypatch.setenv("QUIRE_URL", server.url)
    monkeypatch.setenv("QUIRE_API_KEY", key)
    with pytest.raises(SystemExit) as ended:
        main(["verify", slug, "--json"])
    assert ended.value.code == 0

    # The whole database is set back to before its first entry: it is consistent in itself,
    # and only what signer and server remember outside of it contradicts it.
    tree = statement("TRUNCATE trees, tile_parts, checkpoints, anchor_leaves")
    tamper(database, slug, steps(tree, change(cut, 0), change(point_head_at, -1)))
    rolled_back = verify(server, slug, key)
    assert {fault["kind"] for fault in rolled_back["errors"]} == {
        "rolled_back",
        "anchor_rolled_back",
        "below_acknowledged",
    }
    assert rolled_back["checks"]["tree"] is False


def test_a_damaged_anchor_log_raises_an_alarm_and_freezes_no_org(
    database: Database, server: QuireProcess
) -> None:
    other, others_key = server.create_org("plain")
    call(server, others_key, f"/v1/orgs/{other}/entries", [{"n": n} for n in range(OTHER)])
    slug, key = server.create_org("plain")
    call(server, key, f"/v1/orgs/{slug}/entries", [{"n": n} for n in range(OWN)])
    deadline = time.monotonic() + SIGNED_S
    while not all(blocking(anchored(database, size)) for size in (OWN, OTHER)):
        assert time.monotonic() < deadline, "nothing was anchored"
        time.sleep(0.1)
    damaged = statement(f"UPDATE anchor_leaves SET leaf = sha256(leaf) WHERE size = {OTHER}")
    tamper(database, slug, damaged)
    result = verify(server, slug, key)
    assert result["valid"] is False
    assert result["checks"]["anchors"] is False
    assert {fault["seq"] for fault in result["errors"]} == {-1}
    assert call(server, key, f"/v1/orgs/{slug}")["frozen"] is None
    assert call(server, key, f"/v1/orgs/{slug}/entries", {"n": 4})["seq"] == OWN
    assert blocking(alarms(database)) == ["anchor_log_faults"]


async def alarms(database: Database) -> list[str]:
    connection = await asyncpg.connect(database.superuser_url)
    try:
        rows = await connection.fetch(
            "SELECT kind FROM security_events WHERE org_id IS NULL AND kind = 'anchor_log_faults'"
        )
    finally:
        await connection.close()
    return [row[0] for row in rows]
