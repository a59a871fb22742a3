"""`quire orgs limits`: the rate limits of an org."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click
import msgspec

from ledger.client import OrgLimits, RequestRates
from server.cli.base import output
from server.cli.base.arguments import org_argument
from server.cli.base.connection import Connection, client_command

_MOST: Final = 10_000_000
_WHOSE: Final = {"key": "each API key", "org": "all API keys of the org"}
_WHAT: Final = {
    "append": "Requests that append",
    "read": "Requests that read",
    "verify": "Verifications",
}


def _limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each limit."""
    for whose, owner in reversed(_WHOSE.items()):
        for what, words in reversed(_WHAT.items()):
            command = click.option(
                f"--{whose}-{what}",
                type=click.IntRange(0, _MOST),
                help=f"{words} a minute, of {owner}; 0: no limit.",
            )(command)
    return command


@click.command()
@org_argument
@_limit_options
@output.json_option
@client_command
def limits(connection: Connection, /, org: str, as_json: bool, **given: int | None) -> None:
    """Show the rate limits of an org, or change those that are given.

    A key of the org can tighten its limits; only a platform key can exceed those of the server.
    """
    with connection.client(org) as client:
        found = client.limits()
        if any(count is not None for count in given.values()):
            found = client.set_limits(_changed(found, given))
    if as_json:
        output.print_json(found)
        return
    output.print_fields(
        [
            (f"{words}, {owner}", _shown(_count(found, whose, what)))
            for whose, owner in _WHOSE.items()
            for what, words in _WHAT.items()
        ]
    )


def _count(found: OrgLimits, whose: str, what: str) -> int | None:
    count: int | None = getattr(getattr(found, whose), f"{what}_per_minute")
    return count


def _shown(count: int | None) -> str:
    return "no limit" if count is None else f"{count:,} a minute"


def _changed(found: OrgLimits, given: dict[str, int | None]) -> OrgLimits:
    """Return limits with the given ones in the place of theirs; 0 removes one."""
    rates: dict[str, RequestRates] = {}
    for whose in _WHOSE:
        new = {
            f"{what}_per_minute": count or None
            for what in _WHAT
            if (count := given[f"{whose}_{what}"]) is not None
        }
        rates[whose] = msgspec.structs.replace(getattr(found, whose), **new)
    return OrgLimits(**rates)
