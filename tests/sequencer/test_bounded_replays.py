"""Answers with earlier entries: few are read under lock, and a refusal means that nothing was written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ledger.core.org import OrgFacts
from ledger.core.sequencer import KeyDigest
from ledger.core.sequencer.request import AnswerLost
from ledger.errors import IdempotencyMismatch, OutcomeUnknown
from ledger.storage.entries.picked import receipts
from tests.support.appending import Process, head_of, sound_trail, superuser
from tests.support.block_table import column
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


async def test_a_late_answer_that_is_lost_is_no_refusal_of_what_was_written(
    shared_database: Database,
    first_process: Process,
    org: OrgFacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ledger.core.sequencer.replay.READ_LOCKED_BYTES", 0)
    await first_process.append(org, b"old", unique={0: digest("old", "old")})
    await first_process.append(org, b"head")
    async with superuser(shared_database) as connection:
        await column(connection, org.id, 0, leaves=lambda stored: stored[:-1])
    mixed = {0: digest("new", "new"), 1: digest("old", "old")}
    with pytest.raises(OutcomeUnknown, match="new events of this request were written"):
        await first_process.append(org, b"new", b"old", unique=mixed)
    with pytest.raises(AnswerLost, match="seq 0"):
        await first_process.append(org, b"new", b"old", unique=mixed)
    written = await first_process.append(org, b"new", unique={0: mixed[0]})
    assert (written.replayed, written.receipts()[0].seq) == (True, 2)
    assert (await head_of(shared_database, org.id)).seq == 2
