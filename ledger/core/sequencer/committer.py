"""Runs a batch to a certain end: committed, or certainly not written.

What each failure leaves behind:

* before COMMIT was sent: nothing. The batch is run again on a fresh connection
  for some seconds, then its callers are told that nothing was written.
* while COMMIT was under way: unknown. The heads are locked and read back until
  the answer is certain, however long the database takes to come back; nobody
  is answered before.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

from ledger.core.sequencer.batch import Batch, BatchOutcome
from ledger.core.sequencer.health import AppendHealth
from ledger.core.sequencer.mishaps import StepGuard
from ledger.errors import ClockUnsteady, DatabaseUnavailable, OutcomeUnknown
from ledger.storage import partitions
from ledger.storage.database import CONNECT_TIMEOUT_S, Connection, Database, explained
from ledger.storage.probing import PROBE
from ledger.storage.trail import (
    AppendTransaction,
    CommitUnknown,
    HeadConflict,
    HeadMove,
    NotWritten,
    prepare_connection,
    settle,
)

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0
PROBE_WAIT_S: Final = 1.0
"""For a connection; who asks for a probe wants a reason soon."""


class Committer:
    """Commits batches on connections of its own, kept open between batches."""

    def __init__(
        self, database: Database, retry_s: float, at_once: int, mishaps: StepGuard
    ) -> None:
        self._database = database
        self._mishaps = mishaps
        self._retry_s = retry_s
        self._pool = database.pool_beside(prepare_connection, size=at_once, name="quire append")
        self.health = AppendHealth(self._probe)

    async def connect(self) -> None:
        """Open a connection before others take all there are; what fails is tried when needed."""
        with contextlib.suppress(DatabaseUnavailable):
            async with explained():
                await self._pool.fill()

    async def commit(self, batch: Batch) -> BatchOutcome:
        """Run and commit. Raises DatabaseUnavailable, ClockUnsteady where nothing was written."""
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
                with contextlib.suppress(DatabaseUnavailable):  # the next attempt says it
                    await partitions.create_for(self._database, batch.moments())
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _attempt(self, batch: Batch) -> BatchOutcome:
        connection = await self._connection()
        transaction = AppendTransaction(connection)
        outcome = None
        try:
            outcome = await batch.run(transaction)
            await transaction.commit()
        except CommitUnknown as error:
            assert outcome is not None
            if not await self._settle(outcome.moves):
                raise NotWritten(error) from error
        except ClockUnsteady:
            raise  # the batch asks for the time first: no transaction was begun
        except BaseException:
            await transaction.rollback()
            raise
        finally:
            # Whatever it raises says nothing of the commit: the batch must not be run again.
            with self._mishaps.caught("release"):
                self._pool.release(connection)
        return outcome

    async def _settle(self, moves: Sequence[HeadMove]) -> bool:
        """Ask the database until it says whether the commit took effect."""
        if not moves:
            return False
        pause = FIRST_PAUSE_S
        while True:
            try:
                return await settle(self._database.url, moves)
            except HeadConflict as error:
                raise OutcomeUnknown(str(error)) from error
            except Exception:  # noqa: BLE001 - whatever it is, it is no answer
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _probe(self) -> None:
        """Write something that is no entry, on a connection that appends. Raises DatabaseUnavailable."""
        async with explained(), self._pool.connection(PROBE_WAIT_S) as connection:
            await connection.execute(PROBE)

    async def _connection(self) -> Connection:
        async with explained():
            return await self._pool.acquire(CONNECT_TIMEOUT_S)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close(0)
