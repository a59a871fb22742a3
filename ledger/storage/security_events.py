"""Security events, which an operator must examine, stored in the database that they concern."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from ledger.entry import rfc3339
from ledger.storage.database import Connection, Database
from ledger.storage.event_kinds import kind_of
from ledger.storage.queries import Queries, Queryable

MAX_REASON_CHARS: Final = 1_000
MAX_COUNTED: Final = 100_000
MAX_READ_CHARS: Final = 20_000
"""Characters of a text that are read, and digested: Quire writes no longer ones."""
_DIGEST_LABEL: Final = b"quire security event 1\x00"
_INTO: Final = (
    "INSERT INTO security_events (org_id, kind, detail, severity, layer, score, key_id, details)"
)
ADD: Final = f"{_INTO} VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
# There are few events: without an index on them, a scan is fast enough.
ADD_ONCE: Final = f"""
{_INTO} SELECT $1::bigint, $2::text, $3::text, $4::text, $5::text, NULL, $6::text, '{{}}'
WHERE NOT EXISTS (
    SELECT FROM security_events
    WHERE org_id IS NOT DISTINCT FROM $1 AND kind = $2 AND detail = $3)"""
ADD_HOURLY: Final = f"""
{_INTO} SELECT $1::bigint, $2::text, $4::text, $5::text, $6::text, NULL, $7::text, '{{}}'
WHERE NOT EXISTS (
    SELECT FROM security_events
    WHERE org_id IS NOT DISTINCT FROM $1 AND kind = $2 AND starts_with(detail, $3)
      AND at > now() - interval '1 hour')"""


class SecurityEventRow(NamedTuple):
    """A stored event; ``details`` is a JSON object as text, ``score`` is 0 to 100."""

    id: int
    at: datetime
    kind: str
    detail: str
    severity: str
    layer: str
    score: int | None
    key_id: str | None
    details: str

    def digest(self) -> bytes:
        """Return SHA-256 of a label and the columns as canonical JSON (RFC 8785)."""
        columns = {**self._asdict(), "at": rfc3339(self.at)}
        return hashlib.sha256(
            _DIGEST_LABEL + msgspec.json.encode(dict(sorted(columns.items())))
        ).digest()


def selected(table: str) -> str:
    """Return the columns of a row as SQL to read.

    A time that Quire never writes reads as 1970, and of a longer text its beginning.
    """
    columns = {name: f"left({table}.{name}, {MAX_READ_CHARS})" for name in SecurityEventRow._fields}
    columns |= {name: f"{table}.{name}" for name in ("id", "score")}
    columns["at"] = (
        f"CASE WHEN {table}.at BETWEEN 'epoch' AND '4253-01-01Z' THEN {table}.at ELSE 'epoch' END"
    )
    return ", ".join(columns.values())


# Only the newest are counted one by one; the number of more is not worth their cost.
COUNT: Final = f"""
SELECT count(*) FROM (
    SELECT FROM security_events
    WHERE (org_id = $1 OR ($2 AND org_id IS NULL)) AND ($3::text[] IS NULL OR kind = ANY($3))
    LIMIT {MAX_COUNTED}) counted"""
PAGE: Final = f"""
SELECT {selected("e")} FROM security_events e
WHERE (e.org_id = $1 OR ($2 AND e.org_id IS NULL)) AND ($3::text[] IS NULL OR e.kind = ANY($3))
  AND e.id < $4 ORDER BY e.id DESC LIMIT $5"""


async def count(
    database: Queryable, org_id: int, kinds: Sequence[str] | None, *, of_all: bool
) -> int:
    """Return how many events an org has, of some kinds or of all (None); 100,000 for more."""
    rows = await database.fetch(COUNT, org_id, of_all, kinds)
    number: int = rows[0][0]
    return number


async def page(
    database: Queryable,
    org_id: int,
    kinds: Sequence[str] | None,
    below: int,
    limit: int,
    *,
    of_all: bool,
) -> list[SecurityEventRow]:
    """Return events with ids below one, newest first; with ``of_all`` those of all orgs too."""
    rows = await database.fetch(PAGE, org_id, of_all, kinds, below, limit)
    return [SecurityEventRow(*row) for row in rows]


async def add(
    to: Connection | Database,
    org_id: int | None,
    kind: str,
    detail: str,
    *,
    score: int | None = None,
    key_id: str | None = None,
    details: str = "{}",
) -> None:
    """Store an event of an org, or of all orgs (None); see :func:`storable` for ``detail``.

    Severity and layer are those of its kind.
    """
    severity, layer, _ = kind_of(kind)
    await to.execute(ADD, org_id, kind, detail, severity, layer, score, key_id, details)


async def add_once(
    database: Queries, org_id: int | None, kind: str, detail: str, *, key_id: str | None = None
) -> None:
    """Store an event of an org, or of all (None), unless the same one is stored."""
    severity, layer, _ = kind_of(kind)
    await database.execute(ADD_ONCE, org_id, kind, storable(detail), severity, layer, key_id)


async def add_hourly(
    database: Queries,
    org_id: int | None,
    kind: str,
    about: str,
    detail: str,
    *,
    key_id: str | None = None,
) -> None:
    """Store an event unless one of its kind that begins with ``about`` was stored within the hour."""
    severity, layer, _ = kind_of(kind)
    await database.execute(
        ADD_HOURLY, org_id, kind, about, storable(detail), severity, layer, key_id
    )


def storable(text: str) -> str:
    """Return a reason that PostgreSQL can store, at most 1,000 characters.

    A reason may quote any text, but PostgreSQL's text can't hold NUL, and UTF-8 no
    half of a surrogate pair; both are replaced.
    """
    text = text.replace("\x00", "\ufffd")[:MAX_REASON_CHARS]
    return text.encode("utf-8", "replace").decode()
