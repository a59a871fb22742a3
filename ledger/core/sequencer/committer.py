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

from ledger.core.sequencer.batch import Batch, Outcome
from ledger.errors import ClockUnsteady, DatabaseUnavailable, OutcomeUnknown
from ledger.storage import partitions
from ledger.storage.database import Connection, Database, connect
from ledger.storage.trail import (
    AppendTransaction,
    CommitUnknown,
    HeadConflict,
    Move,
    NotWritten,
    prepare_connection,
    settle,
)

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0


class Committer:
    """Commits batches on connections of its own, kept open between batches."""

    def __init__(self, database: Database, retry_s: float) -> None:
        self._database = database
        self._retry_s = retry_s
        self._idle: list[Connection] = []

    async def commit(self, batch: Batch) -> Outcome:
        """Run and commit. Raises DatabaseUnavailable, ClockUnsteady where nothing was written."""
        deadline = time.monotonic() + self._retry_s
        pause = FIRST_PAUSE_S
        while True:
            try:
                return await self._attempt(batch)
            except (NotWritten, DatabaseUnavailable) as error:
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(str(error)) from error
                missing_partition = isinstance(error, NotWritten) and error.missing_partition
            if missing_partition:
                with contextlib.suppress(DatabaseUnavailable):  # the next attempt says it
                    await partitions.create_for(self._database, batch.moments())
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _attempt(self, batch: Batch) -> Outcome:
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
            self._keep(connection)
        return outcome

    async def _settle(self, moves: Sequence[Move]) -> bool:
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

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        connection = await connect(self._database.url)
        try:
            await prepare_connection(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _keep(self, connection: Connection) -> None:
        if not connection.is_closed():
            self._idle.append(connection)

    async def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().terminate()
