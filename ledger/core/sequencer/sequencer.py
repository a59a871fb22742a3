"""The sequencer of one server process: lanes in, transactions out.

Ownership: a lane belongs to the ready list or to one committer, a request to
its lane until taken and to its batch after that. A batch ends in exactly one
of three ways: committed and answered; certainly not written and refused; or refused with
an unknown outcome, when the shutdown limit passes first or an internal error occurs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Final

from ledger.core.register import Register
from ledger.core.sequencer.batch import Batch
from ledger.core.sequencer.committing.committer import Committer
from ledger.core.sequencer.committing.mishaps import StepGuard
from ledger.core.sequencer.committing.settling import Settling, refuse_unanswered
from ledger.core.sequencer.freezing import RecordedFreezes, RowFreezes
from ledger.core.sequencer.heads.acknowledged import AcknowledgedHeads
from ledger.core.sequencer.lane import Lane, SeenHeads
from ledger.core.sequencer.limits import SequencerHooks, SequencerLimits
from ledger.core.sequencer.outcome import BatchOutcome, BatchTools, LaneBatch
from ledger.core.sequencer.request import Appended, AppendRequest
from ledger.core.sequencer.together import Refused, WholeBatch
from ledger.errors import ClockUnsteady, OutcomeUnknown, QueueFull, ShuttingDown, StorageError
from ledger.keys import SigningKeyring
from ledger.storage.asking import current_turn
from ledger.storage.database import Database
from ledger.turns import Share, Turn, Turns

MAX_IDLE_LANES: Final = 20_000
LANES_LOOKED_AT: Final = 4
"""A new lane looks at so many old ones: whatever their number, it costs the same."""
MAX_TOGETHER: Final = 1_000
"""Batches past the lanes that wait or are in flight."""
MAX_TOGETHER_OF_ORG: Final = 100
_TOGETHER: Final = "together"


def _full_together(_: Hashable) -> QueueFull:
    return QueueFull("too many changes of this org are waiting; retry shortly")


def _turn_together() -> Turn:
    return Turn(current_turn().owner, _TOGETHER, refusable=False)


def system_clock_us() -> int:
    """The machine's time in microseconds since the Unix epoch."""
    return time.time_ns() // 1_000


class Sequencer:
    """Takes append requests and makes each durable once, in order.

    ``keyring(refresh)`` returns the signing keys, read again when ``refresh`` is
    True; ``row_key`` authenticates the rows of idempotency keys. ``register`` knows which orgs are
    frozen; without one, their rows decide. ``clock`` raises ClockUnsteady while its time can't be
    trusted: nothing is written then. ``memory`` is the file of the heads that the processes of this
    machine acknowledged; without it, this process remembers its own. Call start, then append as
    often as needed, then close.
    """

    def __init__(
        self,
        database: Database,
        keyring: Callable[[bool], SigningKeyring],
        row_key: bytes,
        *,
        register: Register | None = None,
        limits: SequencerLimits | None = None,
        clock: Callable[[], int] = system_clock_us,
        memory: AcknowledgedHeads | None = None,
        hooks: SequencerHooks | None = None,
    ) -> None:
        hooks = hooks or SequencerHooks()
        self._database = database
        self.clock = clock
        self.freezes = (
            RowFreezes(database)
            if register is None
            else RecordedFreezes(database, register, self.append_together)
        )
        self._tools = BatchTools(
            SeenHeads(memory, hooks.on_head), keyring, clock, row_key, self.freezes
        )
        self._limits = limits or SequencerLimits()
        self._mishaps = StepGuard(hooks.on_mishap)
        self._settling = Settling(database, self._tools, self._mishaps, hooks.observe)
        self._lanes: OrderedDict[int, Lane] = OrderedDict()
        self._ready: dict[int, Lane] = {}
        self._wake = asyncio.Event()
        self._in_flight: set[Batch] = set()
        # They wait for one another at the head of `system` anyway. One at a time leaves the other
        # connections to the lanes. Those who ask take turns.
        self._together = Turns(
            1, {_TOGETHER: Share(1, 1)}, full=_full_together, of_org=MAX_TOGETHER
        )
        self._waiting_bytes = 0
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._committer = Committer(
            database, self._limits.retry_s, self._limits.committers, self._mishaps
        )

    async def connect(self) -> None:
        """Open a connection before the first append; if that fails, each batch tries again."""
        await self._committer.connect()

    def start(self) -> None:
        """Start the committers on the running loop."""
        self._tasks = [
            asyncio.create_task(self._work(), name=f"committer-{number}")
            for number in range(self._limits.committers)
        ]

    @property
    def waiting_bytes(self) -> int:
        """Bytes of all orgs that are waiting or in flight."""
        return self._waiting_bytes

    @property
    def healthy(self) -> bool:
        """True while all committers run."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    async def trouble(self) -> str | None:
        """The reason why no append can be written now, fit for the public; None when appends work."""
        return await self._committer.health.trouble()

    async def append(self, request: AppendRequest) -> Appended:
        """Wait until the request is durable. Cancelling the caller does not cancel the request.

        Raises QueueFull, ShuttingDown, ClockUnsteady, OrgFrozen, IdempotencyMismatch,
        StaleSeal (nothing written), DatabaseUnavailable (nothing written), OutcomeUnknown.
        """
        self._admit(request)
        # Cancelling the caller cancels only this future; the request stays in its lane.
        return await request.future

    def _admit(self, request: AppendRequest) -> None:
        if self._closing:
            raise ShuttingDown("the server is shutting down; retry against another server")
        limits = self._limits
        if self._waiting_bytes + request.size_bytes > limits.total_bytes:
            raise QueueFull(
                "too many events are waiting on this server; retry shortly", everyone=True
            )
        lane = self._lanes.get(request.org_id)
        if lane is None:
            self._drop_idle_lanes()
            lane = self._lanes[request.org_id] = Lane(request.org_id, request.org)
        if lane.queue and (
            lane.waiting_events + len(request.drafts) > limits.org_events
            or lane.waiting_bytes + request.size_bytes > limits.org_bytes
        ):
            raise QueueFull(
                f"{lane.waiting_events} events of this org are waiting already; retry shortly"
            )
        self._waiting_bytes += request.size_bytes
        lane.put(request)
        if not lane.lock.locked():
            self._ready[lane.org_id] = lane
            self._wake.set()

    def _drop_idle_lanes(self) -> None:
        """Drop an idle lane or two where there are many; a busy one is moved to the end.

        No cache of their own: to note each use would cost more than to make a lane again.
        """
        for _ in range(min(LANES_LOOKED_AT, len(self._lanes) - MAX_IDLE_LANES + 1)):
            org_id, lane = self._lanes.popitem(last=False)
            if lane.queue or lane.lock.locked():
                self._lanes[org_id] = lane

    async def _work(self) -> None:
        while True:
            while not self._ready:
                self._wake.clear()
                await self._wake.wait()
            with self._mishaps.caught("turn"):
                await self._run_turns(await self._take_turns())

    async def _take_turns(self) -> list[LaneBatch]:
        turns: list[LaneBatch] = []
        events, size = self._limits.batch_events, self._limits.batch_bytes
        while self._ready and len(turns) < self._limits.batch_orgs and events > 0 and size > 0:
            lane = next(iter(self._ready.values()))
            # A row that the database refuses must not hold up other orgs, nor must many events.
            apart = lane.changes_rows or lane.is_large
            if apart and turns:
                break
            del self._ready[lane.org_id]
            await lane.lock.acquire()  # never waits: a ready lane is not locked
            requests = lane.take(events, size)
            turns.append(LaneBatch(lane, requests))
            if apart:
                break
            events -= sum(len(request.drafts) for request in requests)
            size -= sum(request.size_bytes for request in requests)
        return turns

    async def _run_turns(self, turns: list[LaneBatch]) -> None:
        try:
            await self._commit(turns)
        except Exception:
            refuse_unanswered(turns)
            raise
        finally:
            self._release(turns)

    async def _commit(self, turns: list[LaneBatch]) -> None:
        batch = Batch(turns, self._tools)
        self._in_flight.add(batch)
        started = time.perf_counter()
        try:
            outcome = await self._committer.commit(batch)
        except Exception as error:  # noqa: BLE001 - no batch may stop its committer
            await self._refuse_or_split(turns, error)
        else:
            # Outside the try: a committed batch must never be run again. A crash here leaves
            # the entries durable and their callers without an answer: a retry with the same
            # idempotency key is answered with these entries, a retry without one appends twice.
            await self._settling.finish(outcome, turns, time.perf_counter() - started)
        finally:
            self._in_flight.discard(batch)

    async def append_together(
        self, requests: Sequence[AppendRequest], locks: Collection[int] = ()
    ) -> Sequence[Appended]:
        """Append requests of several orgs in one transaction, all or none, past the lanes.

        ``locks`` are further orgs whose head rows an effect changes. Cancelling the caller does not
        cancel the requests. One batch is in flight at a time. Raises as :meth:`append` does.
        """
        if self._closing:
            raise ShuttingDown("the server is shutting down; retry against another server")
        self._require_room_together()
        batch = WholeBatch(requests, self._tools, locks)
        self._in_flight.add(batch)
        commit = asyncio.create_task(self._commit_whole(batch))
        await asyncio.shield(commit)
        return [await request.future for request in requests]

    def _require_room_together(self) -> None:
        """Raise QueueFull where too many batches wait or are in flight: of all, or of who asks now."""
        if self._together.held + self._together.waiting >= MAX_TOGETHER:
            raise QueueFull(
                "too many changes are waiting on this server; retry shortly", everyone=True
            )
        if self._together.waiting_of(_turn_together()) >= MAX_TOGETHER_OF_ORG:
            raise _full_together(_TOGETHER)

    async def _commit_whole(self, batch: WholeBatch) -> None:
        started = time.perf_counter()
        try:
            outcome = await self._commit_in_turn(batch)
        except Refused as refused:
            await self._settling.freeze(refused.outcome)
            errors = dict(refused.outcome.refusals)
            first = next(iter(errors.values()))
            for request in batch.requests:
                request.refuse(errors.get(request, first))
        except Exception as error:  # noqa: BLE001 - its callers get it
            for request in batch.requests:
                request.refuse(error)
        else:
            await self._settling.finish(outcome, batch.turns, time.perf_counter() - started)
        finally:
            self._in_flight.discard(batch)

    async def _commit_in_turn(self, batch: WholeBatch) -> BatchOutcome:
        async with self._together.place(_turn_together(), None):
            return await self._committer.commit(batch)

    async def _refuse_or_split(self, turns: list[LaneBatch], error: Exception) -> None:
        """Refuse the requests of a failed batch, or commit smaller ones to isolate the fault.

        Nothing was written, unless ``error`` is OutcomeUnknown.
        """
        parts = _parts(turns)
        if len(parts) == 1 or isinstance(error, (ClockUnsteady, StorageError)):
            for request in (request for turn in turns for request in turn.requests):
                request.refuse(error)
        else:
            for part in parts:
                await self._commit([part])

    def _release(self, turns: list[LaneBatch]) -> None:
        for turn in turns:
            self._waiting_bytes -= sum(request.size_bytes for request in turn.requests)
            turn.lane.lock.release()
            if turn.lane.queue:
                self._ready[turn.lane.org_id] = turn.lane
                self._wake.set()

    async def close(self, limit_s: float) -> None:
        """Accept no request, drain the lanes, give up after ``limit_s`` seconds.

        After that, queued requests are refused as not written, and requests in flight
        are refused with an unknown outcome.
        """
        self._closing = True
        deadline = time.monotonic() + limit_s
        while (self._ready or self._in_flight) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        for lane in self._lanes.values():
            for request in lane.queue:
                request.refuse(ShuttingDown("the server shut down before this was written"))
            lane.queue.clear()
        self._ready.clear()
        for batch in self._in_flight:
            for turn in batch.turns:
                for request in turn.requests:
                    request.refuse(
                        OutcomeUnknown(
                            "the server shut down before it knew whether this was written; "
                            "retry with the same idempotency key to find out"
                        )
                    )
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._committer.close()


def _parts(turns: list[LaneBatch]) -> list[LaneBatch]:
    """Return what is committed alone after a fault: each org, or each request of the only org."""
    if len(turns) > 1:
        return turns
    return [LaneBatch(turn.lane, [request]) for turn in turns for request in turn.requests]
