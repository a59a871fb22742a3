"""The clients' behaviour when the network or the server fails."""

import asyncio
import traceback

import pytest

from ledger.client import (
    AsyncLedgerClient,
    ClientClosedError,
    ConnectFailedError,
    ConnectionLostError,
    InvalidEventError,
    LedgerClient,
    LedgerError,
    OutcomeUnknownError,
    PartialAppendError,
    ProtocolError,
    Receipt,
    TooManyRequestsError,
)
from ledger.client.events import MAX_REQUEST_EVENTS
from tests.client.injector import (
    RECEIPT,
    Fault,
    answer,
    answer_too_late,
    cut_before_answering,
    cut_within_the_answer,
    injecting,
    problem,
)

KEY = "quire_live_test_secretsecretsecret"
UNAVAILABLE = problem(503, "unavailable", "retry-after: 0")


def client_of(url: str, *, timeout: float = 0.5, attempts: int = 3) -> AsyncLedgerClient:
    return AsyncLedgerClient(url, KEY, "demo", timeout=timeout, attempts=attempts)


@pytest.mark.parametrize(
    "fault",
    [
        cut_before_answering,
        cut_within_the_answer,
        answer_too_late,
        UNAVAILABLE,
        problem(503, "outcome-unknown"),
        problem(500, "internal"),
        problem(429, "too-many-requests", "retry-after: 0"),
        answer(502, b"<html>bad gateway</html>", media="text/html"),
    ],
)
async def test_append_is_sent_again_with_the_same_key_and_body(fault: bytes | Fault) -> None:
    async with (
        injecting(fault, answer(201, RECEIPT)) as injector,
        client_of(injector.url) as ledger,
    ):
        receipt = await ledger.append({"event_type": "a"})
    first, second = injector.seen
    assert receipt.seq == 0
    assert first.body == second.body == b'{"event_type":"a"}'
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


async def test_plain_client_sends_again_too() -> None:
    def append(url: str) -> Receipt:
        with LedgerClient(url, KEY, "demo", timeout=0.5) as ledger:
            return ledger.append(b'{"b":  1}', idempotency_key="mine")

    script = (cut_within_the_answer, UNAVAILABLE, answer(201, RECEIPT))
    async with injecting(*script) as injector:
        receipt = await asyncio.to_thread(append, injector.url)
    assert receipt.record_id == "rec_1"
    assert [seen.headers["idempotency-key"] for seen in injector.seen] == ["mine"] * 3
    assert {seen.body for seen in injector.seen} == {b'{"b":  1}'}


@pytest.mark.parametrize(
    "refusal",
    [
        problem(400, "invalid-event", index=0, field="actor"),
        problem(401, "unauthorized"),
        problem(403, "forbidden"),
        problem(404, "not-found"),
        problem(409, "conflict"),
        problem(413, "payload-too-large"),
        problem(422, "idempotency-mismatch"),
        problem(423, "org-frozen", reason="head"),
        problem(429, "too-many-requests", "retry-after: 3600"),
        answer(302, b"", "location: http://elsewhere.invalid/"),
        answer(200, b"<html>hello</html>", media="text/html"),
    ],
)
async def test_a_refusal_is_not_sent_again(refusal: bytes) -> None:
    async with injecting(refusal) as injector, client_of(injector.url) as ledger:
        with pytest.raises(LedgerError) as caught:
            await ledger.append({"event_type": "a"}, idempotency_key="k1")
    assert len(injector.seen) == 1
    assert caught.value.idempotency_key == "k1"


async def test_a_call_that_is_not_repeatable_is_not_retried() -> None:
    async with injecting(cut_before_answering) as injector, client_of(injector.url) as ledger:
        with pytest.raises(ConnectionLostError):
            await ledger.create_key("ci", "member")
    assert len(injector.seen) == 1


async def test_attempts_are_bounded() -> None:
    unknown = problem(503, "outcome-unknown", "retry-after: 0")
    async with injecting(*[unknown] * 5) as injector, client_of(injector.url) as ledger:
        with pytest.raises(OutcomeUnknownError) as caught:
            await ledger.append({})
    assert len(injector.seen) == 3
    assert caught.value.idempotency_key == injector.seen[0].headers["idempotency-key"]


async def test_retry_after_is_waited_for() -> None:
    busy = problem(429, "too-many-requests", "retry-after: 1")
    async with injecting(busy, answer(201, RECEIPT)) as injector, client_of(injector.url) as ledger:
        started = asyncio.get_running_loop().time()
        await ledger.append({})
        assert asyncio.get_running_loop().time() - started >= 1.0


async def test_no_server_listens() -> None:
    async with injecting() as injector:
        pass
    async with client_of(injector.url, attempts=2) as ledger:
        with pytest.raises(ConnectFailedError, match="can't connect"):
            await ledger.append({})


async def test_the_key_is_in_no_error_and_no_repr() -> None:
    async with injecting(problem(401, "unauthorized")) as injector:
        ledger = client_of(injector.url)
        with pytest.raises(LedgerError) as caught:
            await ledger.head()
        await ledger.close()
    assert injector.seen[0].headers["authorization"] == f"Bearer {KEY}"
    shown = "".join(traceback.format_exception(caught.value)) + repr(ledger) + repr(vars(ledger))
    assert KEY not in shown
    with pytest.raises(LedgerError) as refused:
        LedgerClient("http://127.0.0.1", f"{KEY}\x00")
    assert KEY not in str(refused.value)


async def test_a_closed_client_says_so() -> None:
    ledger = client_of("http://127.0.0.1:1")
    await ledger.close()
    with pytest.raises(ClientClosedError):
        await ledger.head()


async def test_whoami_is_asked_once() -> None:
    identity = answer(200, {"org": "acme", "role": "admin", "key_id": "k", "new": 1})
    head = answer(200, {"seq": -1, "entry_hash": None, "anchored_at": None})
    async with (
        injecting(identity, head, head) as injector,
        AsyncLedgerClient(injector.url, KEY) as ledger,
    ):
        await ledger.head()
        assert (await ledger.head()).seq == -1
    paths = [seen.line.split()[1] for seen in injector.seen]
    assert paths == ["/v1/whoami", "/v1/orgs/acme/head", "/v1/orgs/acme/head"]


async def test_an_error_of_many_reports_the_durable_part() -> None:
    full = MAX_REQUEST_EVENTS
    batch = answer(201, {"entries": [RECEIPT] * full, "head": {"seq": 1, "entry_hash": "ab"}})
    bad = problem(400, "invalid-event", index=1, field="actor")
    async with injecting(batch, bad) as injector, client_of(injector.url) as ledger:
        with pytest.raises(PartialAppendError) as caught:
            await ledger.append_many([{"n": n} for n in range(full + 5)], idempotency_key="big")
    assert (len(caught.value.done), caught.value.first_missing) == (full, full)
    assert isinstance(caught.value.__cause__, InvalidEventError)
    assert [seen.headers["idempotency-key"] for seen in injector.seen] == ["big", "big.1"]
    assert "idempotency_key='big'" in str(caught.value)


async def test_fewer_receipts_than_events_is_an_error() -> None:
    batch = answer(201, {"entries": [RECEIPT], "head": {"seq": 0, "entry_hash": "ab"}})
    async with injecting(batch) as injector, client_of(injector.url) as ledger:
        with pytest.raises(ProtocolError, match="number of entries is 1, but 2 events were sent"):
            await ledger.append_many([{}, {}])


async def test_pages_without_progress_end() -> None:
    page = answer(200, {"entries": [], "next_cursor": "same"})
    async with injecting(page, page) as injector, client_of(injector.url) as ledger:
        with pytest.raises(ProtocolError):
            assert [entry async for entry in ledger.entries()] == []


async def test_batching_gives_each_caller_its_own_error() -> None:
    busy = problem(429, "too-many-requests", "retry-after: 99")
    async with (
        injecting(busy) as injector,
        client_of(injector.url) as ledger,
        ledger.batching(in_flight=1) as batch,
    ):
        calls = [batch.append({"n": n}) for n in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert len(injector.seen) == 1
    assert all(isinstance(result, TooManyRequestsError) for result in results)
    assert len({id(result) for result in results}) == 3
