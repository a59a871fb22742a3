"""A signer as a process of its own that can kill -9 itself at a given point.

Arguments: database URL, memory file, and optionally "round" or "anchor" with the point where
it dies: "before:NAME" or "after:NAME" with a name of POINTS. Prints "leads" when it leads, and
the number of checkpoints after each round that signed any.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asyncpg.transaction import Transaction

from ledger.core.checkpointing import Checkpointer, RoundLimits, SignerMemory
from ledger.storage.database import SIGNER_ROLE
from ledger.storage.signing import SignerConnection
from ledger.storage.signing_transaction import SigningTransaction
from tests.support.clusters import as_role
from tests.support.signing import log_keys
from tests.support.trails import RING

PAUSE_S = 0.02
POINTS = (
    "lock_trees",
    "remember BEGIN",
    "remember rows",
    "remember COMMIT",
    "add_parts",
    "add_checkpoints",
    "announce",
    "COMMIT",
)
ROUND_POINTS = (*POINTS, "frozen", "free_anchor_leaves", "add_anchor_leaves")
"""The points of a round, which also adds the anchor's leaves."""


class Fuse:
    """Kills this process at its point, once ``lit`` is set."""

    def __init__(self, when: str, name: str) -> None:
        self._when = when
        self._name = name
        self.lit = False

    def strike(self, when: str, name: str) -> None:
        if self.lit and (when, name) == (self._when, self._name):
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """The coroutine method, with the fuse checked before and after it."""

        async def wrapped(*args: Any, **options: Any) -> Any:
            self.strike("before", name)
            result = await method(*args, **options)
            self.strike("after", name)
            return result

        return wrapped


class File:
    """The memory's SQLite connection, with the fuse checked at each write."""

    def __init__(self, file: sqlite3.Connection, fuse: Fuse) -> None:
        self._file = file
        self._fuse = fuse

    def execute(self, statement: str) -> Any:
        name = f"remember {statement.split(maxsplit=1)[0]}"
        self._fuse.strike("before", name)
        result = self._file.execute(statement)
        self._fuse.strike("after", name)
        return result

    def executemany(self, statement: str, rows: Any) -> None:
        self._fuse.strike("before", "remember rows")
        self._file.executemany(statement, rows)
        self._fuse.strike("after", "remember rows")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def install(fuse: Fuse, memory: SignerMemory) -> None:
    """Install the fuse at every point."""
    for name in ROUND_POINTS:
        if hasattr(SigningTransaction, name):
            setattr(SigningTransaction, name, fuse.wrap(name, getattr(SigningTransaction, name)))
    Transaction.__aexit__ = fuse.wrap("COMMIT", Transaction.__aexit__)  # type: ignore[method-assign]
    memory._file = File(memory._file, fuse)  # type: ignore[assignment]


async def main(url: str, path: str, task: str, point: str) -> None:
    when, _, name = point.partition(":")
    fuse = Fuse(when, name)
    with contextlib.closing(SignerMemory(Path(path))) as memory:
        if point:
            install(fuse, memory)
        async with SignerConnection.open(as_role(url, SIGNER_ROLE)) as connection:
            while not await connection.lead():  # noqa: ASYNC110 - the other is another process
                await asyncio.sleep(PAUSE_S)
            print_line("leads")
            signer = Checkpointer(
                connection, log_keys(), lambda _: RING, memory, RoundLimits(retry_s=0)
            )
            fuse.lit = task == "round"
            while True:
                report = await signer.round()
                if report.checkpoints:
                    print_line(str(report.checkpoints))
                fuse.lit = fuse.lit or task == "anchor"
                await signer.anchor()
                await asyncio.sleep(PAUSE_S)


def print_line(line: str) -> None:
    """Print one line for the test that started this process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *(sys.argv[3:5] or ("", ""))))
