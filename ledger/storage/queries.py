"""What runs a query, whatever it is: a pool, or one connection."""

from __future__ import annotations

from typing import Any, Protocol


class Queryable(Protocol):
    """What can be asked: a pool, or one connection."""

    async def fetch(self, query: str, *args: object) -> list[Any]:
        """All rows of one query."""


class Queries(Queryable, Protocol):
    """What runs any one query: a pool, or a connection of the caller's own."""

    async def execute(self, query: str, *args: object) -> str:
        """Its command tag."""
