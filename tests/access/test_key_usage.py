"""When keys were last used: stored in batches, by several processes, and not lost at a stop."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from uuid import uuid4

import pytest

from ledger.core.clock import wall_us
from ledger.errors import DatabaseUnavailable
from ledger.storage import api_keys
from server.access.keys.api_keys import ApiKeys
from server.access.keys.changes import AskedKey, KeyChanges
from server.access.keys.usage import SLACK, KeyUsage
from tests.support.clusters import Cluster, Database
from tests.support.orgs import at_work
from tests.support.serving import Server, start_server


async def test_uses_are_stored_together_and_none_goes_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(database) as (opened, work):
        org = await work.create_org("org", "Org", "plain")
        ids = [token_hex(8) for _ in range(3)]
        for key_id in ids:
            asked = AskedKey(key_id, org.id, "k", "viewer", b"h" * 32)
            await KeyChanges(work).add(asked, "org")
        keys = ApiKeys(opened, work.register)

        async def uses() -> dict[str, object]:
            return {key.id: key.last_used_at for key in await keys.of_org(org.id)}

        early, late = KeyUsage(opened, wall_us), KeyUsage(opened, lambda: wall_us() + 60_000_000)
        for one in (early, late):
            for key_id in ids[:2]:
                one.note(key_id)
        await asyncio.gather(*(one.store() for one in (early, late) * 3))
        stored = await uses()
        assert stored[ids[2]] is None
        early.note(ids[0])
        await early.store()
        assert await uses() == stored, "another process stored a later use"
        late.note(ids[0])
        await late.store(SLACK)
        assert await uses() == stored, "so soon after the last one, it is not stored again"
        late.note(ids[0])
        with monkeypatch.context() as patched:

            async def away(*_: object) -> None:
                raise DatabaseUnavailable("away")

            patched.setattr(api_keys, "store_uses", away)
            with pytest.raises(DatabaseUnavailable):
                await late.store(timedelta(0))
        await late.store(timedelta(0))
        assert await uses() != stored, "what could not be stored is not lost"
        assert all(key.is_authentic for key in await keys.of_org(org.id))


def test_a_stop_stores_what_was_noted(postgres_cluster: Cluster, session_dir: Path) -> None:
    database, home = postgres_cluster.migrated(), session_dir / uuid4().hex[:8]
    server = start_server(database, home, max_keys=2)
    org, admin = server.create_org("plain")
    viewer = server.create_key(org, "viewer")
    full = server.request(
        "POST", f"/v1/orgs/{org}/keys", {"name": "k", "role": "viewer"}, key=admin
    )
    assert (full.status, full.json()["type"].rpartition("/")[2]) == (409, "too-many-keys")
    assert "--unused 90" in full.json()["detail"]
    # A full org can rotate, at most as many times again.
    rotated = [_rotate(server, org, admin, viewer)]
    rotated.append(_rotate(server, org, admin, rotated[0][1]))
    refused = _rotate(server, org, admin, rotated[1][1])
    assert [status for status, _ in (*rotated, refused)] == [201, 201, 409]
    assert server.request("GET", "/v1/whoami", key=viewer).status == 200
    server.stop()
    again = start_server(database, home, max_keys=2)
    listed = again.request("GET", f"/v1/orgs/{org}/keys", key=admin).json()["keys"]
    used = {key["id"] for key in listed if key["last_used_at"] is not None}
    assert used == {admin.split("_")[2], viewer.split("_")[2]}
    again.stop()
    postgres_cluster.drop(database)


def _rotate(server: Server, org: str, admin: str, key: str) -> tuple[int, str]:
    path = f"/v1/orgs/{org}/keys/{key.split('_')[2]}/rotate"
    answer = server.request("POST", path, key=admin)
    return answer.status, answer.json().get("key", "")
