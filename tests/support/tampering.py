"""Tamperings as values: what a table of cases or a random choice names, to be done later to an org."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec

from tests.support import blocks
from tests.support.appending import superuser
from tests.support.blocks import Connection
from tests.support.clusters import Database, blocking

P = ParamSpec("P")


@dataclass(frozen=True)
class Tampering:
    """A tampering with any org; its description is shown when a test fails."""

    description: str
    run: Callable[[Connection, int], Awaitable[object]] = field(repr=False)

    def __str__(self) -> str:
        return self.description

    async def __call__(self, connection: Connection, org_id: int) -> None:
        """Do it to an org, as a superuser for whom no trigger fires; it must change something.

        In one transaction: a server that runs meanwhile must not see half of it.
        """
        async with connection.transaction():
            await self.run(connection, org_id)


def _described(function: object, args: tuple[object, ...], named: Mapping[str, object]) -> str:
    """Return a text that is the same in every process, as test ids must be."""
    pairs = [*args, *(f"{name}={_shown(value)}" for name, value in named.items())]
    return " ".join([getattr(function, "__name__", ""), *map(_shown, pairs)])


def _shown(value: object) -> str:
    return getattr(value, "__name__", "a function") if callable(value) else str(value)


def change(
    function: Callable[Concatenate[Connection, int, P], Awaitable[object]],
    *args: P.args,
    **named: P.kwargs,
) -> Tampering:
    """A function of `blocks`, with the arguments after connection and org."""

    async def run(connection: Connection, org_id: int) -> None:
        await function(connection, org_id, *args, **named)

    return Tampering(_described(function, args, named), run)


def change_newest(
    function: Callable[Concatenate[Connection, int, int, P], Awaitable[object]],
    *args: P.args,
    **named: P.kwargs,
) -> Tampering:
    """A function of `blocks` on the org's newest entry, with the arguments after its seq."""

    async def run(connection: Connection, org_id: int) -> None:
        newest = await blocks.newest_seq(connection, org_id)
        await function(connection, org_id, newest, *args, **named)

    return Tampering(f"newest: {_described(function, args, named)}", run)


def statement(sql: str) -> Tampering:
    """A statement on other tables, with the org's id as $1 if it names one; it changes rows."""

    async def run(connection: Connection, org_id: int) -> None:
        tag = await connection.execute(sql, *([org_id] if "$1" in sql else []))
        assert not tag.endswith(" 0"), f"{sql}: {tag}"

    return Tampering(sql, run)


def steps(*tamperings: Tampering) -> Tampering:
    """Several tamperings, one after the other."""

    async def run(connection: Connection, org_id: int) -> None:
        for each in tamperings:
            await each(connection, org_id)

    return Tampering("; ".join(each.description for each in tamperings), run)


def tamper(database: Database, slug: str, tampering: Tampering) -> None:
    """Tamper with an org from synchronous code."""

    async def run() -> None:
        async with superuser(database) as connection:
            org_id = await connection.fetchval("SELECT id FROM orgs WHERE slug = $1", slug)
            await tampering(connection, org_id)

    blocking(run())
