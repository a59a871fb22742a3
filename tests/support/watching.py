"""A verification job that never ends, for tests that watch jobs."""

from __future__ import annotations

import secrets

import asyncpg

from tests.support.serving import Server


async def never_ending(server: Server) -> str:
    """Insert a job that another process seems to run for ever; returns its id."""
    job = f"ver_{secrets.token_hex(16)}"
    connection = await asyncpg.connect(server.database.superuser_url)
    await connection.execute(
        "INSERT INTO verifications (id, org_id, state, owner, heartbeat_at) "
        "SELECT $1, id, 'running', 'elsewhere', now() + interval '1 day' FROM orgs WHERE slug = $2",
        job,
        server.org,
    )
    await connection.close()
    return job
