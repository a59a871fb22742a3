"""Parsers in processes of their own: the same events and errors, turns for every org, lost processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from ledger import event
from ledger.errors import InvalidEvent, PayloadTooLarge, QueueFull
from ledger.intake import (
    BodyForm,
    IntakeLimits,
    ParserLost,
    ParserPool,
    body_pieces,
    parse_body,
    pool,
)
from ledger.misspelt import KnownNames
from ledger.workers import WorkerProcess
from server.http.bodies.refused import BURST_BYTES, FORGIVEN_RATE, RefusedBytes

LIMITS = IntakeLimits(3_000, 1 << 20)
BODIES = [
    (BodyForm.JSON, b' {"actor":"\\u00e9","Actor":"x"} '),
    (BodyForm.JSON, b"[" + b" , ".join(b'{"a":%d,"subject":"s"}' % n for n in range(2_500)) + b"]"),
    (BodyForm.JSON, b"[{},{},{}]"),
    (BodyForm.NDJSON, b"\n \n".join(b'{"a":1.50,"event_type":"t%d"}' % n for n in range(700))),
    (BodyForm.MSGPACK, b"\x92\x81\xa1a\x91\xc0\x81\xa1a\x91\xc0"),
    (BodyForm.JSON, b'{"actor":1}'),
    (BodyForm.JSON, b'[{},{"a":1,"a":2}]'),
    (BodyForm.JSON, b"[" + b"{}," * 3_000 + b"{}]"),
    (BodyForm.NDJSON, b'{"a":1}\nnot json'),
    (BodyForm.MSGPACK, b"\x91\x81\x01\x02"),
    (BodyForm.JSON, b'{"a":"' + b"b" * (1 << 20) + b'"}'),
]


async def outcome(work: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await work()
    except InvalidEvent as error:
        return type(error), str(error), error.field, error.index


@pytest.fixture
async def parsers() -> AsyncIterator[ParserPool]:
    made = ParserPool()
    yield made
    await made.close()


async def test_a_parser_gives_the_same_events_and_errors(
    parsers: ParserPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which names are unfamiliar depends on those that a process has judged before.
    monkeypatch.setattr(event, "_known_names", KnownNames(event.FIELD_NAMES))
    for form, body in BODIES:

        async def here(form: BodyForm = form, body: bytes = body) -> Any:
            return parse_body(form, body, LIMITS)

        async def there(form: BodyForm = form, body: bytes = body) -> Any:
            return await parsers.parse(1, form, body, LIMITS)

        same = await outcome(there) == await outcome(here)
        assert same, body[:80]  # a difference of thousands of events takes hours to show


def test_a_body_is_parsed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event, "_known_names", KnownNames(event.FIELD_NAMES))
    for form, body in BODIES[1:5]:
        pieces, single = body_pieces(form, body, LIMITS)
        sizes = [len(piece) for piece in pieces]
        assert not single
        assert sum(sizes) == len(parse_body(form, body, LIMITS)[0])
        assert set(sizes[:-1]) <= {event.AT_ONCE}
        assert sizes[-1] <= event.AT_ONCE
    pieces, _ = body_pieces(BodyForm.NDJSON, b"{}\n" * event.AT_ONCE + b"[]", LIMITS)
    assert len(next(pieces)) == event.AT_ONCE
    with pytest.raises(InvalidEvent):  # when it is asked for
        next(pieces)


async def test_the_class_of_an_error_is_kept(parsers: ParserPool) -> None:
    with pytest.raises(PayloadTooLarge):
        await parsers.parse(1, BodyForm.JSON, BODIES[-1][1], LIMITS)


async def test_a_parser_that_is_killed_is_replaced(
    parsers: ParserPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await parsers.parse(1, *BODIES[0], LIMITS)
    os.kill(parsers._free[0].pid, signal.SIGKILL)
    events, single = await parsers.parse(1, *BODIES[0], LIMITS)
    assert (len(events), single) == (1, True)

    async def killed(process: WorkerProcess, *parts: bytes) -> None:
        os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(WorkerProcess, "send", killed)
    with pytest.raises(ParserLost, match="ended"):
        await parsers.parse(1, *BODIES[0], LIMITS)


async def test_an_org_leaves_parsers_to_the_others(
    parsers: ParserPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "ORG_WAITING_MAX", 2)
    ended = asyncio.Event()
    running: list[int] = []

    async def slow(org_id: int) -> None:
        async with parsers._turn(org_id):
            running.append(org_id)
            await ended.wait()

    async def settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(slow(1)) for _ in range(3)]
    await settle()
    assert running == [1]
    with pytest.raises(QueueFull):
        await slow(1)
    tasks += [asyncio.create_task(slow(2)), asyncio.create_task(slow(3))]
    await settle()
    assert running == [1, 2]
    tasks[1].cancel()  # while it waits
    ended.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(running) == [1, 1, 2, 3]
    assert parsers._busy.total() == 0
    assert not parsers._waiting


def test_refused_bytes_are_forgiven_with_time() -> None:
    now = 0.0
    refused = RefusedBytes(lambda: now)
    refused.charge(1, BURST_BYTES)
    refused.admit(1)
    refused.charge(1, 10 * FORGIVEN_RATE)
    with pytest.raises(QueueFull) as waits:
        refused.admit(1)
    assert waits.value.retry_after == 11
    refused.admit(2)
    now = 10.0
    refused.admit(1)
