"""Both clients against a running server.

The `server` fixture has `.url` and `.platform_key`, and the slug and admin key of
an org as `.org` and `.admin_key`. Tests that count entries create their own org.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import uuid4

import pytest

from ledger.client import (
    AsyncLedgerClient,
    ConflictError,
    ForbiddenError,
    IdempotencyMismatchError,
    InvalidEventError,
    LedgerClient,
    NotFoundError,
    OrgLimits,
    Receipt,
    RequestRates,
    UnauthorizedError,
    VerificationJob,
)
from ledger.proof import parse_proof
from tests.support.serving import Server
from tests.support.signed_trees import SignedTrees


class RunningServer(Protocol):
    url: str
    platform_key: str
    org: str
    admin_key: str


@pytest.fixture
def ledger(server: RunningServer) -> Iterator[LedgerClient]:
    """A client with the admin key of a new, empty org; the client is not given the org's slug."""
    slug = f"client-{uuid4().hex[:12]}"
    with LedgerClient(server.url, server.platform_key) as platform:
        platform.create_org(slug, "Client tests")
        key = platform.create_key("tests", "admin", org=slug).key
    with LedgerClient(server.url, key) as client:
        yield client


@pytest.fixture
async def aledger(server: RunningServer, ledger: LedgerClient) -> AsyncIterator[AsyncLedgerClient]:
    """An asyncio client of the same org as ``ledger``."""
    key = ledger.create_key("aio", "admin").key
    async with AsyncLedgerClient(server.url, key) as client:
        yield client


def event(n: int) -> dict[str, object]:
    return {"event_type": "client.test", "actor": f"actor-{n % 3}", "outcome": "ok", "n": n}


def test_append_and_read_back(ledger: LedgerClient) -> None:
    assert ledger.head().seq == -1
    before = datetime.now(UTC)
    first = ledger.append(event(0))
    second = ledger.append(b'{"event_type": "client.test",  "n": 1.0, "\\u00e9": null}')
    assert (first.seq, second.seq) == (0, 1)
    assert first.previous_hash is None
    assert second.previous_hash == first.entry_hash
    assert timedelta(seconds=-5) < first.anchored_at - before < timedelta(seconds=60)
    head = ledger.head()
    assert (head.seq, head.entry_hash) == (1, second.entry_hash)
    entry = ledger.get(first.record_id)
    assert (entry.seq, entry.event_type, entry.payload) == (0, "client.test", event(0))
    sent = b'{"event_type": "client.test",  "n": 1.0, "\\u00e9": null}'
    assert ledger.payload(second.record_id) == sent
    assert bytes(ledger.get(second.record_id).payload_raw) == sent


def test_repeating_an_append_with_its_key_writes_it_once(ledger: LedgerClient) -> None:
    first = ledger.append(event(0), idempotency_key="once")
    assert ledger.append(event(0), idempotency_key="once") == first
    assert ledger.head().seq == 0
    with pytest.raises(IdempotencyMismatchError):
        ledger.append(event(1), idempotency_key="once")


def test_many_with_minimal_receipts(ledger: LedgerClient) -> None:
    receipts = ledger.append_many([event(n) for n in range(250)], idempotency_key="many")
    assert [receipt.seq for receipt in receipts] == list(range(250))
    assert ledger.append_many([event(n) for n in range(250)], idempotency_key="many") == receipts
    [summary] = ledger.append_many((event(n) for n in range(250, 260)), minimal=True)
    assert (summary.first_seq, summary.last_seq, summary.count) == (250, 259, 10)
    assert summary.head.entry_hash == ledger.head().entry_hash
    assert ledger.append_many([]) == []


def test_more_events_than_one_request_takes(ledger: LedgerClient) -> None:
    receipts = ledger.append_many([{"n": n} for n in range(10_050)])
    assert [receipt.seq for receipt in receipts] == list(range(10_050))


def test_a_bad_event_is_named(ledger: LedgerClient) -> None:
    with pytest.raises(InvalidEventError) as caught:
        ledger.append_many([event(0), {"actor": 5}, event(2)])
    assert (caught.value.index, caught.value.field) == (1, "actor")
    assert ledger.head().seq == -1


def test_entries_follow_the_pages_and_filters(ledger: LedgerClient) -> None:
    ledger.append_many([event(n) for n in range(25)])
    assert [entry.seq for entry in ledger.entries(page_size=10)] == list(range(24, -1, -1))
    ascending = ledger.entries(order="asc", page_size=7)
    assert [entry.seq for entry in ascending] == list(range(25))
    found = [entry.seq for entry in ledger.entries(actor="actor-1", order="asc")]
    assert found == [n for n in range(25) if n % 3 == 1]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert list(ledger.entries(since=tomorrow)) == []


def test_verification(ledger: LedgerClient) -> None:
    receipts = ledger.append_many([event(n) for n in range(30)])
    one = ledger.verify_entry(receipts[3].record_id)
    assert one.valid
    assert one.checks.hash_valid is True
    assert one.errors == []
    seen: list[VerificationJob] = []
    whole = ledger.verify_audit_trail(on_progress=seen.append)
    assert whole.valid
    assert (whole.total_entries, whole.failed_entries, whole.errors) == (30, 0, [])
    assert seen[-1].finished
    part = ledger.verify_audit_trail(from_seq=10, to_seq=19)
    assert part.valid
    assert part.total_entries == 10


def test_proofs_of_new_entries(server: Server, ledger: LedgerClient) -> None:
    receipt = ledger.append(event(0))
    signing = threading.Timer(0.3, SignedTrees(server).sign)
    signing.start()
    proof = ledger.proof(receipt.record_id)
    signing.join()
    assert (proof.index, proof.leaf_hash) == (receipt.seq, receipt.entry_hash)
    assert parse_proof(ledger.proof_file(receipt.record_id, size=1)).index == 0
    assert proof.checkpoint.note.encode() == ledger.log_checkpoint()
    assert proof.anchoring is None
    SignedTrees(server).anchor()
    anchoring = ledger.proof(receipt.record_id, anchored=True).anchoring
    assert anchoring is not None
    (checkpoint,) = ledger.checkpoints()
    assert (checkpoint.size, checkpoint.anchor_index) == (1, anchoring.index)
    assert ledger.update_org(log_public=True).log_public


def test_keys_and_roles(server: RunningServer, ledger: LedgerClient) -> None:
    created = ledger.create_key("reader", "viewer")
    assert created.id in {key.id for key in ledger.keys()}
    assert created.key not in repr(created)
    with LedgerClient(server.url, created.key) as reader:
        assert reader.whoami().role == "viewer"
        assert reader.head().seq == -1
        with pytest.raises(ForbiddenError):
            reader.append(event(0))
    ledger.revoke_key(created.id)
    revoked = LedgerClient(server.url, created.key, ledger.whoami().org)
    with revoked, pytest.raises(UnauthorizedError):
        revoked.head()


def test_orgs(server: RunningServer) -> None:
    slug = f"client-{uuid4().hex[:12]}"
    with LedgerClient(server.url, server.platform_key, org=slug) as platform:
        created = platform.create_org(slug, privacy="plain")
        assert (created.slug, created.name, created.privacy) == (slug, slug, "plain")
        assert platform.update_org(name="Renamed").name == "Renamed"
        assert platform.update_org(max_key_age_days=30).max_key_age_days == 30
        assert platform.update_org(max_key_age_days=0).max_key_age_days is None
        rates = OrgLimits(key=RequestRates(append_per_minute=600), org=RequestRates())
        assert platform.set_limits(rates) == platform.limits() == rates
        assert platform.org() == platform.org(slug)
        assert {slug, server.org} <= {org.slug for org in platform.orgs()}
        with pytest.raises(ConflictError):
            platform.create_org(slug)
        with pytest.raises(NotFoundError):
            platform.org("no-such-org")


def test_erasing_a_person_leaves_the_trail_valid(ledger: LedgerClient) -> None:
    receipt = ledger.append({"event_type": "profile.read", "subject": "a/b c@example.com"})
    assert ledger.erase_subject("a/b c@example.com").erased
    entry = ledger.get(receipt.record_id)
    assert entry.erased
    assert entry.payload is None
    assert ledger.verify_audit_trail().valid
    with pytest.raises(NotFoundError):
        ledger.erase_subject("nobody")


async def test_the_asyncio_client_does_the_same(aledger: AsyncLedgerClient) -> None:
    receipts = await aledger.append_many([event(n) for n in range(25)])
    assert [entry.seq async for entry in aledger.entries(page_size=10)] == list(range(24, -1, -1))
    assert [checkpoint async for checkpoint in aledger.checkpoints()] == []
    assert (await aledger.get(receipts[4].record_id)).payload == event(4)
    assert (await aledger.verify_entry(receipts[4].record_id)).valid
    assert (await aledger.verify_audit_trail()).total_entries == 25
    assert {key.name for key in await aledger.keys()} >= {"tests", "aio"}


async def test_batching_is_durable_when_it_returns(aledger: AsyncLedgerClient) -> None:
    async with aledger.batching() as batch:

        async def append(n: int) -> Receipt:
            receipt = await batch.append(event(n))
            if n % 50 == 0:  # an acknowledged entry can be read at once
                assert (await aledger.get(receipt.record_id)).payload == event(n)
            return receipt

        receipts = await asyncio.gather(*(append(n) for n in range(1_000)))
    assert sorted(receipt.seq for receipt in receipts) == list(range(1_000))
    assert (await aledger.head()).seq == 999
    assert (await aledger.verify_audit_trail()).valid


async def test_batching_fails_only_the_caller_with_the_bad_event(
    aledger: AsyncLedgerClient,
) -> None:
    events = [event(n) if n not in (7, 40) else {"actor": n} for n in range(60)]
    async with aledger.batching() as batch:
        results = await asyncio.gather(
            *(batch.append(each) for each in events), return_exceptions=True
        )
    failed = [n for n, result in enumerate(results) if isinstance(result, InvalidEventError)]
    assert failed == [7, 40]
    assert (await aledger.head()).seq == 57


def test_values_without_a_json_type_are_written_as_text_and_verify(ledger: LedgerClient) -> None:
    at = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
    receipt = ledger.append({"event_type": "client.test", "result": {"at": at}})
    assert json.loads(ledger.payload(receipt.record_id))["result"] == {"at": "2026-01-31T12:00:00Z"}
    assert ledger.verify_audit_trail().valid
