"""Coalescing, without a network: the tests replace `send`, and make it refuse and stall."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest

from ledger.client import errors
from ledger.client.batching import Batching
from ledger.client.errors import Problem
from ledger.client.models import Receipt
from tests.support.waiting import PATIENCE_S

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Playing:
    """A double of the server that refuses each whole batch with a "bad" event in it.

    With ``names_index`` the refusal names the event, as a server's does for an
    invalid event; without it does not, as for a body that is too large.
    """

    def __init__(self, *, names_index: bool = True) -> None:
        self.names_index = names_index
        self.batches: list[list[int]] = []
        self.written: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.most_at_once = self.now = 0

    async def send(self, encoded: Sequence[bytes]) -> list[Receipt]:
        events = [msgspec.json.decode(event) for event in encoded]
        self.batches.append([event["n"] for event in events])
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        await self.open.wait()
        await asyncio.sleep(0)
        self.now -= 1
        for index, event in enumerate(events):
            if event.get("bad"):
                self._refuse(index)
        self.written += [event["n"] for event in events]
        return [receipt(event["n"]) for event in events]

    def _refuse(self, index: int) -> None:
        if self.names_index:
            extras = {"index": index, "field": "actor"}
            raise errors.InvalidEventError(Problem(status=400, extras=extras))
        raise errors.PayloadTooLargeError(Problem(status=413))


def receipt(seq: int) -> Receipt:
    return Receipt(
        record_id=f"rec_{seq}", seq=seq, entry_hash="", previous_hash=None, anchored_at=NOW
    )


async def results_of(
    batch: Batching, events: list[dict[str, object]]
) -> list[Receipt | BaseException]:
    return await asyncio.gather(*(batch.append(event) for event in events), return_exceptions=True)


async def test_concurrent_appends_share_a_request_and_get_their_own_receipts() -> None:
    server = Playing()
    async with Batching(server.send) as batch:
        receipts = await asyncio.gather(*(batch.append({"n": n}) for n in range(500)))
    assert [receipt.seq for receipt in receipts] == list(range(500))
    assert server.batches == [list(range(500))]


async def test_a_lone_append_does_not_wait() -> None:
    server = Playing()
    async with Batching(server.send) as batch:
        async with asyncio.timeout(PATIENCE_S):
            assert (await batch.append({"n": 1})).seq == 1


async def test_appends_during_a_request_are_the_next_batch_within_bounds() -> None:
    server = Playing()
    server.open.clear()
    async with Batching(server.send, in_flight=1) as batch:
        first = asyncio.create_task(batch.append({"n": 0}))
        await asyncio.sleep(0.01)
        rest = [asyncio.create_task(batch.append({"n": n})) for n in range(1, 6)]
        await asyncio.sleep(0.01)
        assert server.batches == [[0]]
        assert not first.done()
        server.open.set()
        await asyncio.gather(first, *rest)
    assert server.batches == [[0], [1, 2, 3, 4, 5]]
    assert server.most_at_once == 1


@pytest.mark.parametrize("in_flight", [1, 3])
async def test_batches_queue_and_requests_keep_their_bounds(in_flight: int) -> None:
    server = Playing()
    batch = Batching(
        server.send,
        max_events=7,
        max_bytes=64,
        queue_events=10,
        queue_bytes=90,
        in_flight=in_flight,
    )
    async with batch:
        results = asyncio.create_task(results_of(batch, [{"n": n} for n in range(300)]))
        while not results.done():
            assert len(batch._queue) <= 10
            assert batch._queued_bytes <= 90
            await asyncio.sleep(0)
    assert sorted(server.written) == list(range(300))
    assert max(map(len, server.batches)) <= 7
    assert server.most_at_once <= in_flight


async def test_an_event_larger_than_the_queue_goes_alone() -> None:
    server = Playing()
    async with Batching(server.send, max_bytes=10, queue_bytes=10) as batch:
        events = [{"n": n, "text": "x" * 100} for n in range(5)]
        await asyncio.gather(*(batch.append(event) for event in events))
    assert sorted(server.batches) == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("names_index", [True, False])
@pytest.mark.parametrize("bad", [{3}, {0, 99}, set(range(0, 100, 2)), set(range(100))])
async def test_a_bad_event_fails_only_its_own_caller(bad: set[int], names_index: bool) -> None:
    server = Playing(names_index=names_index)
    async with Batching(server.send) as batch:
        results = await results_of(batch, [{"n": n, "bad": n in bad} for n in range(100)])
    for n, result in enumerate(results):
        if n in bad:
            assert isinstance(result, errors.ProblemError)
            assert result.index is None  # the index in the shared request is of no use to it
        else:
            assert isinstance(result, Receipt)
    assert server.written == [n for n in range(100) if n not in bad]
    assert len(server.batches) <= 220


async def test_an_event_that_can_not_be_sent_fails_at_once() -> None:
    server = Playing()
    async with Batching(server.send) as batch:
        with pytest.raises(errors.EventEncodingError):
            await batch.append(b'{"n":1},{"n":2}')
    assert server.batches == []


async def test_an_error_of_the_whole_reaches_every_caller() -> None:
    async def send(encoded: Sequence[bytes]) -> list[Receipt]:
        raise errors.ConnectionLostError("cut")

    async with Batching(send) as batch:
        results = await results_of(batch, [{"n": n} for n in range(10)])
        assert all(isinstance(result, errors.ConnectionLostError) for result in results)
        assert isinstance((await results_of(batch, [{}]))[0], errors.ConnectionLostError)


async def test_an_unexpected_error_leaves_no_caller_waiting() -> None:
    async def send(encoded: Sequence[bytes]) -> list[Receipt]:
        return [receipt(0)]  # one receipt, whatever the number of events

    async with asyncio.timeout(PATIENCE_S):
        async with Batching(send) as batch:
            results = await results_of(batch, [{"n": n} for n in range(3)])
    assert all(isinstance(result, ValueError) for result in results[1:])


async def test_a_cancelled_caller_withdraws_only_its_unsent_events() -> None:
    server = Playing()
    server.open.clear()
    async with Batching(server.send, in_flight=1, max_events=2) as batch:
        calls = [asyncio.create_task(batch.append({"n": n})) for n in range(6)]
        await asyncio.sleep(0.01)
        calls[0].cancel()  # being sent
        calls[3].cancel()  # waiting
        await asyncio.sleep(0)
        server.open.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert server.written == [0, 1, 2, 4, 5]
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [
        True, False, False, True, False, False,
    ]  # fmt: skip


async def test_callers_cancelled_while_the_queue_is_full_give_their_turn_on() -> None:
    server = Playing()
    async with asyncio.timeout(PATIENCE_S):
        async with Batching(server.send, max_events=1, queue_events=1, in_flight=1) as batch:
            calls = [asyncio.create_task(batch.append({"n": n})) for n in range(100)]
            for n in range(0, 100, 3):
                await asyncio.sleep(0)
                calls[n].cancel()
            await asyncio.gather(*calls, return_exceptions=True)
    done = [n for n, call in enumerate(calls) if not call.cancelled()]
    assert set(done) <= set(server.written)
    assert len(server.written) == len(set(server.written))


async def test_close_drains_then_refuses() -> None:
    server = Playing()
    server.open.clear()
    batch = Batching(server.send, max_events=2, queue_events=3, in_flight=1)
    calls = [asyncio.create_task(batch.append({"n": n})) for n in range(20)]
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(batch.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    with pytest.raises(errors.ClientClosedError):
        await batch.append({"n": 99})
    server.open.set()
    await closing
    assert [call.result().seq for call in calls] == list(range(20))


async def test_a_cancelled_close_leaves_no_caller_waiting() -> None:
    server = Playing()
    server.open.clear()
    batch = Batching(server.send, max_events=2, queue_events=3, in_flight=1)
    calls = [asyncio.create_task(batch.append({"n": n})) for n in range(10)]
    await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await batch.close()
    async with asyncio.timeout(PATIENCE_S):
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, errors.ClientClosedError) for result in results)
