"""Tenants and their security events."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import asyncpg

from ledger.storage.database import Database
from ledger.storage.security_events import add as add_event


class OrgRecord(NamedTuple):
    """One org with its head and its frozen state."""

    id: int
    slug: str
    name: str
    privacy: str
    wrapped_key: bytes
    created_at: datetime
    accepted_faults: str | None
    seq: int
    entry_hash: bytes
    anchored_at: datetime
    frozen_at: datetime | None
    frozen_reason: str | None
    has_head: bool
    log_public: bool
    keys_lost_below: int


SELECT_ORG = """
SELECT o.id, o.slug, o.name, o.privacy, o.wrapped_key, o.created_at, o.accepted_faults,
       coalesce(h.seq, -1), coalesce(h.entry_hash, ''),
       -- An edited time that Python can't hold must not hide this org or fail the query for all.
       CASE WHEN h.anchored_at BETWEEN 'epoch' AND '4253-01-01Z' THEN h.anchored_at ELSE 'epoch' END,
       h.frozen_at, h.frozen_reason, h.org_id IS NOT NULL, o.log_public,
       o.keys_lost_below
FROM orgs o LEFT JOIN heads h ON h.org_id = o.id"""
INSERT_ORG = """
WITH org AS (
    INSERT INTO orgs (id, slug, name, privacy, wrapped_key) VALUES ($1, $2, $3, $4, $5)
    RETURNING id
)
INSERT INTO heads (org_id) SELECT id FROM org"""
CHANGE_ORG = """
UPDATE orgs SET name = coalesce($2, name), log_public = coalesce($3, log_public) WHERE id = $1
RETURNING slug"""
NOTIFY_ORG = "SELECT pg_notify('quire_orgs', $1)"
ACCEPT_FAULTS = "UPDATE orgs SET accepted_faults = found_faults, found_faults = NULL WHERE id = $1"
FREEZE_ORG = """
WITH found AS (UPDATE orgs SET found_faults = $3 WHERE id = $1)
UPDATE heads SET frozen_at = now(), frozen_reason = $2
WHERE org_id = $1 AND frozen_reason IS NULL"""

SELECT_EVENTS = """
SELECT id, at, kind, detail FROM security_events WHERE org_id = $1 ORDER BY id DESC LIMIT 100"""


async def insert_org(
    database: Database, org_id: int, slug: str, name: str, privacy: str, wrapped_key: bytes
) -> str | None:
    """Create an org with an empty trail; return what is taken already: "slug", "id" or None."""
    async with database.connection() as connection:
        try:
            await connection.execute(INSERT_ORG, org_id, slug, name, privacy, wrapped_key)
        except asyncpg.UniqueViolationError as error:
            return "slug" if error.constraint_name == "orgs_slug_key" else "id"
    return None


async def org_by_slug(database: Database, slug: str) -> OrgRecord | None:
    """Return the org with this slug, or None."""
    row = await database.fetchrow(f"{SELECT_ORG} WHERE o.slug = $1", slug)
    return None if row is None else OrgRecord(*row)


async def org_by_id(database: Database, org_id: int) -> OrgRecord | None:
    """Return the org with this id, or None."""
    row = await database.fetchrow(f"{SELECT_ORG} WHERE o.id = $1", org_id)
    return None if row is None else OrgRecord(*row)


async def list_orgs(database: Database, after_slug: str, limit: int) -> list[OrgRecord]:
    """Return orgs in the order of their slugs, after ``after_slug``."""
    rows = await database.fetch(
        f"{SELECT_ORG} WHERE o.slug > $1 ORDER BY o.slug LIMIT $2", after_slug, limit
    )
    return [OrgRecord(*row) for row in rows]


async def any_org(database: Database) -> bool:
    """Return whether the database has any org."""
    return await database.fetchrow("SELECT 1 FROM orgs LIMIT 1") is not None


async def public_org(database: Database, slug: str) -> OrgRecord | None:
    """Return the org with this slug if its log is public; None for a private or missing org."""
    row = await database.fetchrow(f"{SELECT_ORG} WHERE o.slug = $1 AND o.log_public", slug)
    return None if row is None else OrgRecord(*row)


async def change_org(
    database: Database, org_id: int, *, name: str | None, log_public: bool | None
) -> None:
    """Change the values that are not None and notify every server; slug and privacy are fixed."""
    async with database.transaction() as connection:
        slug = await connection.fetchval(CHANGE_ORG, org_id, name, log_public)
        if slug is not None:
            await connection.execute(NOTIFY_ORG, slug)


async def freeze_org(database: Database, org_id: int, reason: str, faults: str) -> None:
    """Freeze an org whose trail is damaged; ``faults`` is JSON, see the schema."""
    async with database.transaction() as connection:
        await connection.execute(FREEZE_ORG, org_id, reason, faults)
        await add_event(connection, org_id, "org_frozen", reason)


async def security_events(database: Database, org_id: int) -> list[tuple[int, datetime, str, str]]:
    """Return the newest 100 security events of an org, newest first: id, time, kind, detail."""
    return [tuple(row) for row in await database.fetch(SELECT_EVENTS, org_id)]
