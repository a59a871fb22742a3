"""The client's public API, called as users call it; `test_client_api` type-checks this file."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict, assert_type

from ledger.client import (
    Archive,
    AsyncEvidenceBundle,
    AsyncLedgerClient,
    BatchSummary,
    CreatedApiKey,
    Entry,
    Erasure,
    EvidenceBundle,
    Head,
    InvalidEventError,
    LedgerClient,
    Org,
    Receipt,
    RotatedApiKey,
    TrailVerification,
    Verdict,
    VerificationJob,
)


class Login(TypedDict):
    event_type: str
    actor: str


def plain(ledger: LedgerClient) -> None:
    login: Login = {"event_type": "user.login", "actor": "alice"}
    names: dict[str, str] = {"actor": "alice"}
    receipt = ledger.append(login)
    assert_type(receipt, Receipt)
    assert_type(receipt.anchored_at, datetime)
    assert_type(receipt.previous_hash, str | None)
    ledger.append(names, idempotency_key="k")
    ledger.append(b"{}")
    assert_type(ledger.append_many([login, {"n": 1, "deep": {"x": [1]}}, b"{}"]), list[Receipt])
    assert_type(ledger.append_many((names for _ in range(3)), minimal=True), list[BatchSummary])
    assert_type(ledger.entries(actor="a", since=datetime.now(UTC), order="asc"), Iterator[Entry])
    assert_type(ledger.head(), Head)
    assert_type(ledger.payload(receipt.record_id), bytes)
    assert_type(ledger.verify_audit_trail(on_progress=print), TrailVerification)
    assert_type(ledger.create_org("acme", privacy="plain"), Org)
    assert_type(ledger.create_key("ci", "member", org="acme"), CreatedApiKey)
    assert_type(ledger.rotate_key(overlap_hours=1), RotatedApiKey)
    assert_type(ledger.erase_subject("alice"), Erasure)
    assert_type(ledger.archive(wait_seconds=1), Archive)
    bundle = ledger.export_evidence_bundle(record_ids=[receipt.record_id])
    assert_type(bundle, EvidenceBundle)
    assert_type(bundle.save("evidence.zip"), Path)
    ledger.export_evidence_bundle(
        subject="bob", since=datetime.now(UTC), disclose={"records": "all", "fields": ["payload"]}
    )
    ledger.export_evidence_bundle(from_seq=0, include_quantum_attestation=True)
    LedgerClient(api_key="key")
    AsyncLedgerClient(api_key="key", org="acme")
    ledger.export_evidence_bundle(from_sequence=0)  # type: ignore[call-arg]
    ledger.export_evidence_bundle(disclose={"fields": ["name"]})  # type: ignore[arg-type]
    ledger.append("{}")  # type: ignore[arg-type]
    ledger.create_key("ci", "owner")  # type: ignore[arg-type]
    ledger.entries(actr="a")  # type: ignore[call-arg]


def progress(job: VerificationJob) -> None:
    assert_type(job.processed, int)
    assert_type(job.rate, float | None)


async def concurrent(ledger: AsyncLedgerClient) -> None:
    async with ledger.batching(in_flight=1) as batch:
        receipts = await asyncio.gather(*(batch.append({"n": n}) for n in range(3)))
        assert_type(receipts, list[Receipt])
    assert_type(ledger.entries(), AsyncIterator[Entry])
    async for entry in ledger.entries(subject="bob", page_size=10):
        assert_type(entry, Entry)
    result = await ledger.verify_audit_trail(1, 2, progress)
    assert_type(result.checks.head, Verdict)
    bundle = await ledger.export_evidence_bundle(from_seq=0, to_seq=9, include_payloads=False)
    assert_type(bundle, AsyncEvidenceBundle)
    assert_type(await bundle.save(Path("evidence.zip")), Path)
    assert_type(await ledger.append_many([b"{}"], minimal=True), list[BatchSummary])


def handle(error: InvalidEventError) -> tuple[int | None, str | None]:
    return error.index, error.field
