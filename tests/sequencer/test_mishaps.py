"""Exceptions around a commit end no committer, and every caller gets its answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from ledger.core.sequencer import BatchReport, SequencerLimits
from ledger.core.sequencer.committing.health import AppendHealth
from ledger.core.sequencer.lane import SeenHeads
from ledger.core.sequencer.limits import COMMITTERS
from ledger.core.sequencer.outcome import BatchOutcome
from ledger.core.sequencer.request import AppendRequest
from ledger.errors import OutcomeUnknown
from ledger.storage.pool import Pool
from tests.support.appending import new_org, process, sound_trail
from tests.support.clusters import Database

ROUNDS = COMMITTERS + 2
"""More rounds than committers: if exceptions ended committers, none would be left."""
MESSAGE = "an append transaction met an internal error before or after its commit"


def _raises(*_: Any) -> None:
    raise RuntimeError("a double that raises")


def _reports(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage().startswith(MESSAGE)]


@pytest.mark.parametrize("counts", [True, False], ids=["counted", "counting-raises-too"])
async def test_a_metrics_callback_that_raises_ends_no_committer(
    shared_database: Database, caplog: pytest.LogCaptureFixture, counts: bool
) -> None:
    counted: list[str] = []
    count = counted.append if counts else _raises
    async with process(shared_database.server_url, observe=_raises, on_mishap=count) as running:
        org = await new_org(running.database)
        for number in range(ROUNDS):
            answer = await running.append(org, b"%d" % number)
            assert [receipt.seq for receipt in answer.receipts()] == [number]
        assert running.sequencer.healthy
        assert len(await sound_trail(shared_database, org)) == ROUNDS
    assert counted == ["observe"] * ROUNDS * counts
    (report,) = _reports(caplog)  # a lasting mishap is reported once, then at growing intervals
    assert report.levelno == logging.ERROR
    assert report.exc_info is not None
    assert "a double that raises" in report.getMessage()


async def test_what_is_not_remembered_is_not_acknowledged(
    shared_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    async with process(shared_database.server_url, on_mishap=counted.append) as running:
        org = await new_org(running.database)
        monkeypatch.setattr(SeenHeads, "settle", _raises)
        for _ in range(ROUNDS):
            with pytest.raises(OutcomeUnknown):
                await asyncio.wait_for(running.append(org, b"durable"), 60)
        assert running.sequencer.healthy
        assert len(await sound_trail(shared_database, org)) == ROUNDS
    assert set(counted) == {"remember"}


async def test_a_settle_that_raises_leaves_no_caller_waiting(
    shared_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted: list[str] = []
    async with process(shared_database.server_url, on_mishap=counted.append) as running:
        org = await new_org(running.database)
        monkeypatch.setattr(BatchOutcome, "settle", _raises)
        for number in range(ROUNDS):
            # The entry is durable and its receipt known: the receipt is the answer.
            answer = await asyncio.wait_for(running.append(org, b"%d" % number), 60)
            assert [receipt.seq for receipt in answer.receipts()] == [number]
        assert running.sequencer.healthy
        assert len(await sound_trail(shared_database, org)) == ROUNDS
        assert len(running.reports) == ROUNDS
    assert set(counted) == {"settle"}
    assert len(_reports(caplog)) == 1


@pytest.mark.parametrize(
    ("owner", "name", "step"), [(AppendHealth, "committed", "health"), (Pool, "release", "release")]
)
async def test_an_exception_after_the_commit_does_not_repeat_the_batch(
    shared_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    step: str,
) -> None:
    """In one batch with two orgs, where an error for one org would be an error for both."""
    counted: list[str] = []
    limits = SequencerLimits(committers=1)
    async with process(
        shared_database.server_url, on_mishap=counted.append, limits=limits
    ) as running:
        orgs = [await new_org(running.database) for _ in range(3)]
        original = getattr(owner, name)

        def raises(*arguments: Any) -> None:
            original(*arguments)
            raise RuntimeError("a double that raises")

        monkeypatch.setattr(owner, name, raises)
        await asyncio.gather(*(running.append(org, b"0") for org in orgs))
        monkeypatch.undo()
        for org in orgs:
            assert len(await sound_trail(shared_database, org)) == 1
    assert step in counted


async def test_an_answer_that_raises_concerns_only_its_caller(
    shared_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Callable[..., None] = AppendRequest.answer

    def answer(request: AppendRequest, appended: Any) -> None:
        if request.drafts[0].payload == b"bad":
            raise RuntimeError("a double that raises")
        original(request, appended)

    counted: list[str] = []
    async with process(shared_database.server_url, on_mishap=counted.append) as running:
        orgs = [await new_org(running.database) for _ in range(ROUNDS)]
        monkeypatch.setattr(AppendRequest, "answer", answer)
        answers = await asyncio.gather(
            *(running.append(org, b"bad") for org in orgs),
            *(running.append(org, b"good") for org in orgs),
            return_exceptions=True,
        )
        assert [type(one) for one in answers[:ROUNDS]] == [OutcomeUnknown] * ROUNDS
        assert not any(isinstance(one, BaseException) for one in answers[ROUNDS:])
        assert running.sequencer.healthy
        for org in orgs:
            assert len(await sound_trail(shared_database, org)) == 2
    assert counted
    assert set(counted) == {"settle"}


async def test_any_exception_of_a_turn_ends_no_committer(
    shared_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    async with process(shared_database.server_url, on_mishap=counted.append) as running:
        org = await new_org(running.database)
        with monkeypatch.context() as broken:
            broken.setattr("ledger.core.sequencer.sequencer.Batch", _raises)
            for _ in range(ROUNDS):
                with pytest.raises(OutcomeUnknown, match="internal error"):
                    await asyncio.wait_for(running.append(org, b"lost"), 60)
        assert running.sequencer.healthy
        assert running.sequencer.waiting_bytes == 0
        answer = await asyncio.wait_for(running.append(org, b"kept"), 60)
        assert [receipt.seq for receipt in answer.receipts()] == [0]
    assert counted == ["turn"] * ROUNDS


async def test_a_report_follows_each_commit(shared_database: Database) -> None:
    reports: list[BatchReport] = []
    async with process(shared_database.server_url, observe=reports.append) as running:
        org = await new_org(running.database)
        await running.append(org, b"a", b"b")
    assert [report.entries for report in reports] == [2]
