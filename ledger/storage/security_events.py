"""Security events: what an operator must look at, kept beside what it concerns."""

from __future__ import annotations

from typing import Final

from ledger.storage.database import Connection, Database

MAX_REASON_CHARS: Final = 1_000
ADD: Final = "INSERT INTO security_events (org_id, kind, detail) VALUES ($1, $2, $3)"


async def add(to: Connection | Database, org_id: int | None, kind: str, detail: str) -> None:
    """Keep an event of an org, or one that concerns all orgs (None); see :func:`storable`."""
    await to.execute(ADD, org_id, kind, detail)


def storable(text: str) -> str:
    """A reason as it can be kept, of 1,000 characters at most.

    It quotes what it found: PostgreSQL's text holds no NUL, and UTF-8 no half a pair.
    """
    text = text.replace("\x00", "\ufffd")[:MAX_REASON_CHARS]
    return text.encode("utf-8", "replace").decode()
