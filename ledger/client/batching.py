"""Batching: sends many concurrent appends in few requests."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

from ledger.client.delivery import BatchDelivery, PendingEvent, Send
from ledger.client.errors import ClientClosedError, InvalidArgumentError
from ledger.client.events import MAX_REQUEST_BYTES, MAX_REQUEST_EVENTS, Event, encode
from ledger.client.models import Receipt

DEFAULT_BATCH_EVENTS = 1_000
DEFAULT_BATCH_BYTES = 4 * 1024 * 1024
DEFAULT_QUEUE_EVENTS = 20_000
DEFAULT_QUEUE_BYTES = 64 * 1024 * 1024
DEFAULT_IN_FLIGHT = 2


class Batching:
    """Appends that share requests; made by ``AsyncLedgerClient.batching()``.

    While requests are in progress (``in_flight`` at most), new events wait and become the next
    batch: no timer delays a single event, and batches grow under load. Each ``append`` returns
    only once its own event is durable. A full queue makes ``append`` wait.
    """

    def __init__(
        self,
        send: Send,
        *,
        max_events: int = DEFAULT_BATCH_EVENTS,
        max_bytes: int = DEFAULT_BATCH_BYTES,
        queue_events: int = DEFAULT_QUEUE_EVENTS,
        queue_bytes: int = DEFAULT_QUEUE_BYTES,
        in_flight: int = DEFAULT_IN_FLIGHT,
    ) -> None:
        if not (1 <= max_events <= MAX_REQUEST_EVENTS and 1 <= max_bytes <= MAX_REQUEST_BYTES):
            raise InvalidArgumentError("a batch holds 1 to 10,000 events and at most 16 MiB")
        if min(queue_events, queue_bytes, in_flight) < 1:
            raise InvalidArgumentError("queue_events, queue_bytes and in_flight must be at least 1")
        self._send = send
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._queue_events = queue_events
        self._queue_bytes = queue_bytes
        self._in_flight = in_flight
        self._queue: deque[PendingEvent] = deque()
        self._queued_bytes = 0
        self._entering = 0  # calls of append that are not in the queue yet
        self._turns: deque[asyncio.Future[None]] = deque()
        self._senders: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def append(self, event: Event) -> Receipt:
        """Append one event and return its receipt once it is durable.

        An event that the server refuses fails only its own call. Cancelling the call withdraws
        an event that was not sent yet, but not one in a request in progress. To repeat an
        append after an unknown outcome, give the event a ``unique_key``.
        """
        if self._closed:
            raise ClientClosedError("this batching context is closed")
        encoded = encode(event)
        waiting = PendingEvent(encoded, asyncio.get_running_loop().create_future())
        self._entering += 1
        try:
            await self._room_for(len(encoded))
        finally:
            self._entering -= 1
        self._queue.append(waiting)
        self._queued_bytes += len(encoded)
        self._start_sender()
        return await waiting.receipt

    async def close(self) -> None:
        """Refuse new calls, and wait until all earlier calls are answered.

        If this wait is cancelled, the earlier calls raise ClientClosedError, and whether their
        events were written is unknown.
        """
        self._closed = True
        try:
            while self._senders or self._entering:
                await (asyncio.wait(self._senders) if self._senders else asyncio.sleep(0))
        except asyncio.CancelledError:
            self._abandon()
            raise

    def _abandon(self) -> None:
        unsent = ClientClosedError("closed before the event was sent")
        while self._queue:
            self._queue.popleft().fail(unsent)
        for turn in self._turns:
            if not turn.done():
                turn.set_exception(unsent)
        for sender in self._senders:
            sender.cancel()

    # The queue's bounds

    def _fits(self, size_bytes: int) -> bool:
        # An event larger than the whole queue may enter an empty one.
        return not self._queue or (
            len(self._queue) < self._queue_events
            and self._queued_bytes + size_bytes <= self._queue_bytes
        )

    async def _room_for(self, size_bytes: int) -> None:
        """Wait for room in the queue. While a call waits, the queue has events and a sender runs."""
        while not self._fits(size_bytes):
            turn = asyncio.get_running_loop().create_future()
            self._turns.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._give_turns()  # this call may have had a turn that it does not use
                raise

    def _give_turns(self) -> None:
        free = self._queue_events - len(self._queue)
        while free > 0 and self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    # Sending

    def _start_sender(self) -> None:
        if len(self._senders) < self._in_flight:
            self._senders.add(asyncio.create_task(self._send_queued()))

    async def _send_queued(self) -> None:
        """Send batch after batch until nothing waits.

        The task leaves the set of senders itself, in the same step in which it finds the queue
        empty: otherwise an event that arrives in between would have no sender.
        """
        sender = asyncio.current_task()
        assert sender is not None
        try:
            while batch := self._take():
                await BatchDelivery(batch, self._send).run()
        finally:
            self._senders.discard(sender)

    def _take(self) -> list[PendingEvent]:
        """Return the next batch, without the events of cancelled calls."""
        batch: list[PendingEvent] = []
        size_bytes = 2  # the array's brackets; each event brings itself and a comma
        while self._queue and len(batch) < self._max_events:
            size_bytes += len(self._queue[0].event) + 1
            if batch and size_bytes > self._max_bytes:
                break
            waiting = self._queue.popleft()
            self._queued_bytes -= len(waiting.event)
            if not waiting.receipt.done():
                batch.append(waiting)
        self._give_turns()
        return batch
