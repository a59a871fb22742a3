"""The parsers of one server process, and the turns of orgs at them.

Each parser serves one body at a time. An org has at most half of them at once, and orgs that wait
take turns, so that no org keeps them from the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from ledger.errors import UNAVAILABLE, QueueFull, QuireError
from ledger.event import Event
from ledger.intake.bodies import (
    MAX_ANSWER_BYTES,
    ORDER,
    BodyForm,
    IntakeLimits,
    ListAnswer,
    ParserAnswer,
    error_of,
    events_of,
)
from ledger.intake.record_lists import RecordLists, add_part
from ledger.workers import WorkerKind, WorkerProcess

PARSERS: Final = 2
ORG_WAITING_MAX: Final = 64
"""Bodies of one org that wait for a parser; more are answered with 429."""
WAITING_MAX: Final = 1_024


class ParserLost(QuireError):
    """The process that parsed a body ended."""

    problem_type = UNAVAILABLE


KIND: Final = WorkerKind("ledger.intake.worker", "a parser", ParserLost, MAX_ANSWER_BYTES)
_list_of = msgspec.msgpack.Decoder(ListAnswer).decode
_answer_of = msgspec.msgpack.Decoder(ParserAnswer).decode

_Parsed = tuple[list[Event], bool]


class ParserPool:
    """Parses bodies in processes, which are started when they are first needed."""

    def __init__(self, parsers: int = PARSERS) -> None:
        self._parsers = parsers
        self._of_org = max(parsers // 2, 1)
        self._free: list[WorkerProcess] = []
        self._busy: Counter[int] = Counter()
        self._waiting: OrderedDict[int, deque[asyncio.Future[None]]] = OrderedDict()
        self._closed = False

    async def parse(
        self, org_id: int, form: BodyForm, body: bytes, limits: IntakeLimits
    ) -> _Parsed:
        """Return the events of a body, and whether it was a single object.

        Raises InvalidEvent, QueueFull, or ParserLost if the parser ends twice.
        """
        async with self._turn(org_id):
            try:
                return await self._parse(form, body, limits)
            except ParserLost:
                return await self._parse(form, body, limits)

    async def take_out(self, org_id: int, body: bytes) -> tuple[bytes, RecordLists]:
        """Return a request without its long lists of record ids, and the lists.

        Raises InvalidEvent, QueueFull, or ParserLost if the parser ends twice.
        """
        async with self._turn(org_id):
            try:
                return await self._take_out(body)
            except ParserLost:
                return await self._take_out(body)

    async def _parse(self, form: BodyForm, body: bytes, limits: IntakeLimits) -> _Parsed:
        async with self._parser() as parser:
            await parser.send(ORDER.pack(form, limits.max_events, limits.max_payload), body)
            events: list[Event] = []
            answer = ParserAnswer([], more=True)
            while answer.more:
                answer = _answer_of(await parser.receive())
                events += events_of(answer.events, body)
                if answer.more:
                    await asyncio.sleep(0)  # other requests first; no piece: the parser is held
        if answer.refusal is not None:
            raise error_of(answer.refusal)
        return events, answer.single

    async def _take_out(self, body: bytes) -> tuple[bytes, RecordLists]:
        lists: RecordLists = {}
        async with self._parser() as parser:
            await parser.send(ORDER.pack(BodyForm.RECORD_LISTS, 0, 0), body)
            answer = ListAnswer()
            while answer.rest is None and answer.refusal is None:
                answer = _list_of(await parser.receive())
                add_part(lists, answer)
                await asyncio.sleep(0)  # other requests first; no piece: the parser is held
        if answer.refusal is not None:
            raise error_of(answer.refusal)
        return answer.rest or b"", lists

    @asynccontextmanager
    async def _parser(self) -> AsyncIterator[WorkerProcess]:
        parser = self._free.pop() if self._free else await WorkerProcess.start(KIND)
        try:
            yield parser
        except BaseException:
            # Its answer would be taken for that to the next body.
            await asyncio.shield(parser.end())
            raise
        if self._closed:
            await parser.end()
        else:
            self._free.append(parser)

    @asynccontextmanager
    async def _turn(self, org_id: int) -> AsyncIterator[None]:
        if self._may_begin(org_id):
            self._busy[org_id] += 1
        else:
            await self._wait(org_id)
        try:
            yield
        finally:
            self._busy[org_id] -= 1
            if not self._busy[org_id]:
                del self._busy[org_id]
            self._next()

    def _may_begin(self, org_id: int) -> bool:
        return self._busy.total() < self._parsers and self._busy[org_id] < self._of_org

    async def _wait(self, org_id: int) -> None:
        """Wait for the turn of an org; whoever gives it has counted it as busy."""
        queue = self._waiting.setdefault(org_id, deque())
        everyone = sum(map(len, self._waiting.values())) >= WAITING_MAX
        if everyone or len(queue) >= ORG_WAITING_MAX:
            raise QueueFull(
                "too many large requests wait to be read; retry shortly", everyone=everyone
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._busy[org_id] -= 1
                self._next()
            raise

    def _next(self) -> None:
        """Give free parsers to the orgs that wait, one after the other."""
        for org_id in list(self._waiting):
            queue = self._waiting[org_id]
            while queue and queue[0].done():
                queue.popleft()  # cancelled
            if not queue:
                del self._waiting[org_id]
            elif self._may_begin(org_id):
                self._busy[org_id] += 1
                queue.popleft().set_result(None)
                self._waiting.move_to_end(org_id)

    async def close(self) -> None:
        """End the parsers."""
        self._closed = True
        await asyncio.gather(*(parser.end() for parser in self._free))
        self._free.clear()
