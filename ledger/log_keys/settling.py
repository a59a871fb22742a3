"""Which stored statements of log keys count: those of the own history, and keys that continue it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ledger.errors import KeyHistoryError
from ledger.log_keys.statement import Body, parse_statement, verify_statement


class SettledKeys(NamedTuple):
    """The statements that count, oldest first, and the positions of the stored rows that do not.

    ``forks`` are those of them that a key of the log, or another log's first key, signed validly:
    they belong to another history. ``missing`` are positions below a right row without a row.
    """

    statements: list[bytes]
    aside: list[int]
    forks: list[int]
    missing: list[int]


def settle(own: Sequence[bytes], stored: Sequence[tuple[int, bytes]]) -> SettledKeys:
    """Compare stored statements, in the order of their positions, with the own history.

    ``own`` is that of the key file, empty on a machine without one: the stored statements then
    count as far as each verifies after the one before.
    """
    settled = SettledKeys(list(own), [], [], [])
    right = set()
    for position, statement in stored:
        known = 0 <= position < len(own)
        if known and own[position] == statement:
            right.add(position)
        elif 0 <= position <= len(settled.statements) and _follows(
            settled.statements[:position], statement
        ):
            if known:
                settled.aside.append(position)
                if not _is_same(own[position], statement):
                    settled.forks.append(position)
            else:
                settled.statements.append(statement)
                right.add(position)
        else:
            settled.aside.append(position)
    settled.missing.extend(at for at in range(max(right, default=0)) if at not in right)
    return settled


def _is_same(own: bytes, statement: bytes) -> bool:
    """Return whether two valid statements are about the same key, in another encoding."""
    return parse_statement(own).statement == parse_statement(statement).statement


def _follows(before: Sequence[bytes], statement: bytes) -> bool:
    """Return whether a statement verifies after those before it, the last of which is valid."""
    last: Body | None = parse_statement(before[-1]).statement if before else None
    try:
        verify_statement(parse_statement(statement), last)
    except KeyHistoryError:
        return False
    return True
