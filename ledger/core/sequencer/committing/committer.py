"""Runs a batch until its outcome is certain: committed, or not written.

An error before COMMIT was sent means that nothing was written: the batch runs again, for
some seconds. An error while COMMIT was under way means that the outcome is unknown: it is
read back, however long the database takes to come back, and no caller is answered before.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from ledger.core.sequencer.batch import Batch
from ledger.core.sequencer.committing.health import AppendHealth
from ledger.core.sequencer.committing.mishaps import StepGuard
from ledger.core.sequencer.outcome import BatchOutcome
from ledger.errors import ClockUnsteady, DatabaseUnavailable, OutcomeUnknown
from ledger.storage import partitions
from ledger.storage.database import CONNECT_TIMEOUT_S, Connection, Database, explained
from ledger.storage.entries.rights import PROBE
from ledger.storage.trail import (
    AppendTransaction,
    CommitUnknown,
    HeadConflict,
    NotWritten,
    prepare_connection,
    settle,
)

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0
PROBE_WAIT_S: Final = 1.0
"""How long a probe waits for a connection; its reason is needed soon."""


class Committer:
    """Commits batches on its own connections, which stay open between batches."""

    def __init__(
        self, database: Database, retry_s: float, at_once: int, mishaps: StepGuard
    ) -> None:
        self._database = database
        self._mishaps = mishaps
        self._retry_s = retry_s
        self._pool = database.pool_beside(prepare_connection, size=at_once, name="quire append")
        self.health = AppendHealth(self._probe)

    async def connect(self) -> None:
        """Open a connection before others use up the server's; if that fails, each batch tries again."""
        with contextlib.suppress(DatabaseUnavailable):
            async with explained():
                await self._pool.fill()

    async def commit(self, batch: Batch) -> BatchOutcome:
        """Run the batch and commit it.

        Raises DatabaseUnavailable or ClockUnsteady (nothing was written), OutcomeUnknown.
        """
        deadline = time.monotonic() + self._retry_s
        pause = FIRST_PAUSE_S
        while True:
            try:
                outcome = await self._attempt(batch)
            except (NotWritten, DatabaseUnavailable) as error:
                self.health.failed(error)
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(str(error)) from error
                missing_partition = isinstance(error, NotWritten) and error.missing_partition
            else:
                with self._mishaps.caught("health"):
                    self.health.committed()
                return outcome
            if missing_partition:
                # A crash here leaves empty partitions, which later batches use.
                with contextlib.suppress(DatabaseUnavailable):  # the next attempt reports it
                    await partitions.create_for(self._database, batch.moments())
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _attempt(self, batch: Batch) -> BatchOutcome:
        connection = await self._connection()
        transaction = AppendTransaction(connection)
        outcome = None
        try:
            whole = batch.in_one_statement()
            if whole is not None:
                outcome = whole.outcome
                if await whole.commit(transaction):
                    return outcome
                outcome = None
            outcome = await batch.run(transaction)
            # A crash here leaves nothing: COMMIT was not sent, so PostgreSQL rolls back the
            # entries, head moves, key uses and freezes together.
            await transaction.commit()
            # A crash here leaves the whole batch durable and no caller answered. The next
            # process needs no repair: each org's first batch locks the head row, checks the
            # head's entry and goes on from it.
        except CommitUnknown as error:
            # A crash here leaves either the whole batch or nothing of it, and no caller answered.
            # A retry with the same idempotency key gets the stored entries or appends them.
            assert outcome is not None
            if not await self._read_outcome(outcome):
                raise NotWritten(error) from error
        except ClockUnsteady:
            raise  # the batch reads the clock first: no transaction was begun
        except BaseException:
            # A crash here leaves nothing: PostgreSQL rolls back when the connection closes. A
            # cancellation while COMMIT was under way comes here too: then all is written, or nothing.
            await transaction.rollback()
            raise
        finally:
            # An error of the release says nothing of the commit: the batch must not run again.
            with self._mishaps.caught("release"):
                self._pool.release(connection)
        return outcome

    async def _read_outcome(self, outcome: BatchOutcome) -> bool:
        """Read the heads back, under lock, until it is certain whether the commit took effect.

        Raises OutcomeUnknown if some moves are persisted and others are not.
        """
        if not outcome.moves:
            return False  # no entry was written: the batch may run again
        pause = FIRST_PAUSE_S
        while True:
            try:
                return await settle(
                    self._database.url, outcome.moves, may_arrive=outcome.may_arrive
                )
            except HeadConflict as error:
                raise OutcomeUnknown(str(error)) from error
            except Exception:  # noqa: BLE001 - the outcome stays unknown until it is read
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _probe(self) -> None:
        """Write a probe, which is no entry, on an append connection. Raises DatabaseUnavailable."""
        async with explained(), self._pool.connection(PROBE_WAIT_S) as connection:
            await connection.execute(PROBE)

    async def _connection(self) -> Connection:
        async with explained():
            return await self._pool.acquire(CONNECT_TIMEOUT_S)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close(0)
