"""Protocols of objects that run queries: a pool, or one connection."""

from __future__ import annotations

from typing import Any, Protocol


class Queryable(Protocol):
    """Fetches rows: a pool, or one connection."""

    async def fetch(self, query: str, *args: object) -> list[Any]:
        """Return all rows of one query."""


class Queries(Queryable, Protocol):
    """Runs any single query: a pool, or the caller's own connection."""

    async def execute(self, query: str, *args: object) -> str:
        """Run one statement and return its command tag."""
