"""A batch reads no more earlier entries than its requests have events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ledger.core.org import OrgFacts
from ledger.core.sequencer import KeyDigest
from ledger.errors import IdempotencyMismatch
from ledger.storage.entries import receipts
from tests.support.appending import Process, sound_trail
from tests.support.clusters import Database

PAYLOADS = [b"%d" % number for number in range(100)]


def digest(key: str, body: str) -> KeyDigest:
    return KeyDigest(key.encode().ljust(16, b"."), body.encode().ljust(16, b"."))


async def test_a_key_with_another_body_reads_no_entry_of_its_first_answer(
    shared_database: Database,
    first_process: Process,
    org: OrgFacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key in ("a", "b"):
        await first_process.append(org, *PAYLOADS, idempotency=digest(key, "many"))
    await first_process.append(org, b"one", unique={0: digest("u", "one")})
    read: list[int] = []
    original = receipts.read

    async def counted(queries: Any, org_id: int, seqs: Sequence[int], **options: Any) -> Any:
        read.extend(seqs)
        return await original(queries, org_id, seqs, **options)

    monkeypatch.setattr(receipts, "read", counted)
    refused = [
        first_process.append_in_task(org, b"other", idempotency=digest(key, "other"))
        for key in ("a", "b")
    ]
    again = first_process.append_in_task(org, b"one", unique={0: digest("u", "one")})
    for task in refused:
        with pytest.raises(IdempotencyMismatch):
            await task
    assert [receipt.seq for receipt in (await again).receipts()] == [200]
    assert read == [200]
    both = await asyncio.gather(
        *(
            first_process.append(org, *PAYLOADS, idempotency=digest(key, "many"))
            for key in ("a", "b")
        )
    )
    assert all(answer.replayed for answer in both)
    assert await sound_trail(shared_database, org) == [*PAYLOADS, *PAYLOADS, b"one"]
