"""Doubles of steps of the append transaction that cut their own connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ledger.storage.trail import AppendTransaction, CommitUnknown


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
        if name == "commit":
            raise CommitUnknown("cut after COMMIT took effect")
        return result

    monkeypatch.setattr(owner, name, step)
    return breaks
