"""Finished verification jobs expire; waiting, running and recently finished ones stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ledger.storage.database import Database
from ledger.storage.verifications import VerificationTable
from tests.plugins.server import StartServer
from tests.support.clusters import blocking
from tests.support.signing import fetch
from tests.support.trails import ORG_ID
from tests.support.waiting import until
from tests.verification.database import Superuser

DAYS = 30
ADD = """
INSERT INTO verifications (id, org_id, state, owner, mac, heartbeat_at, finished_at)
VALUES ($1, $2, $3, 'gone', '', $4::timestamptz, $5::timestamptz)"""


async def test_jobs_finished_long_ago_are_deleted(superuser: Superuser) -> None:
    now = datetime.now(UTC)
    old, young = now - timedelta(days=DAYS, hours=1), now - timedelta(days=DAYS, hours=-1)
    jobs: list[tuple[str, str, datetime, datetime | None]]
    jobs = [(f"old-{number}", "done", old, old) for number in range(2_100)]
    jobs += [("failed", "failed", old, old), ("abandoned", "running", old, None)]
    jobs += [("young", "done", old, young), ("waits", "queued", young, None)]
    for job_id, *rest in jobs:
        await superuser.connection.execute(ADD, job_id, ORG_ID, *rest)
    database = await Database.open(superuser.database.server_url, size=1)
    try:
        table = VerificationTable(database, bytes(32))
        assert await table.expire(now, DAYS) == 2_102
        assert await table.expire(now, DAYS) == 0
    finally:
        await database.close()
    rows = await fetch(superuser.database, "SELECT id FROM verifications ORDER BY id")
    assert [row["id"] for row in rows] == ["waits", "young"]


def test_the_server_deletes_them_by_its_setting(start_servers: StartServer) -> None:
    """The upkeep deletes them at a server's start and every hour, after the setting's days."""
    server = start_servers()
    server.org, server.admin_key = server.create_org()
    path = f"/v1/orgs/{server.org}/verifications"
    job = server.request("POST", f"{path}?wait=30", {}, key=server.admin_key).json()
    kept = server.request("POST", f"{path}?wait=30", {}, key=server.admin_key).json()
    age = "UPDATE verifications SET finished_at = now() - interval '6 days' WHERE id = $1"
    blocking(fetch(server.database, age, job["id"]))

    def gone() -> bool:
        # Asked of another process: the one that ran the job answers from its memory.
        return other.request("GET", f"{path}/{job['id']}", key=server.admin_key).status == 404

    other = start_servers(verification_days=7)
    assert not gone()
    start_servers(verification_days=5)
    until(gone, "the job did not expire")
    assert server.request("GET", f"{path}/{kept['id']}", key=server.admin_key).status == 200
