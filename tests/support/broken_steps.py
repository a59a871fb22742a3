"""Doubles of steps of the append transaction that cut their own connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Final

import pytest

from ledger.storage.trail import AppendTransaction, CommitUnknown

COMMITS: Final = ("commit", "change_at_once")


def broken(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool, times: int = 1
) -> list[str]:
    """A double of one step that cuts its connection before or after the real step ran."""
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)
    breaks: list[str] = []

    async def step(transaction: AppendTransaction, *args: Any) -> Any:
        if len(breaks) >= times:
            return await original(transaction, *args)
        breaks.append(name)
        if not after:
            transaction.connection.terminate()
            return await original(transaction, *args)
        result = await original(transaction, *args)
        transaction.connection.terminate()
        if name in COMMITS:
            raise CommitUnknown("cut after COMMIT took effect")
        return result

    monkeypatch.setattr(owner, name, step)
    return breaks


def broken_statement(monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool) -> list[int]:
    """Cut the connection before or after a statement of append transactions, counted from 0.

    Returns the list of the cuts that were made: empty while there were fewer statements.
    """
    original, cuts = AppendTransaction.run, list[int]()
    counted = count()

    async def run(transaction: AppendTransaction, operation: Awaitable[Any]) -> Any:
        if next(counted) != number:
            return await original(transaction, operation)
        cuts.append(number)
        if not after:
            transaction.connection.terminate()
            return await original(transaction, operation)
        result = await original(transaction, operation)
        transaction.connection.terminate()
        return result

    monkeypatch.setattr(AppendTransaction, "run", run)
    return cuts
