"""A database that is restarted is no alarm of the tasks that wait for it; one that stays away is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from ledger.core.attesting.anchors import AttestationProblem, Attested
from ledger.core.org import OrgFacts
from ledger.errors import DatabaseAway
from server.http.routes.appending import waiting
from server.process import attesting, retention
from server.process.attesting import AnchorAttesting
from server.process.retention import RetentionProcess
from tests.support.serving import server_settings

Logs = list[tuple[str, str]]


async def lost(*_: Any, **__: Any) -> None:
    raise DatabaseAway("the database can't do this now: connection was closed")


async def logs_of(task: Awaitable[None], seconds: float = 0.1) -> Logs:
    """Level and event of each line that the task logs until it is cancelled."""
    with capture_logs() as lines:
        try:
            async with asyncio.timeout(seconds):
                await task
        except TimeoutError:
            pass
    return [(line["log_level"], line["event"]) for line in lines]


def anchor_attesting(directory: Path) -> AnchorAttesting:
    settings = server_settings(directory, tsa_url="http://127.0.0.1:9", tsa_ca=directory / "ca.pem")
    return AnchorAttesting(settings, "", cast("Any", None))


async def test_of_attestations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attesting, "AGAIN_S", 0.01)
    monkeypatch.setattr(AnchorAttesting, "_attest", lost)
    logs = await logs_of(anchor_attesting(tmp_path).run())
    assert logs == [("info", "attestations wait for the database")]


async def test_an_unforeseen_error_does_not_end_attesting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fault(*_: Any) -> None:
        raise RuntimeError("of all things")

    monkeypatch.setattr(attesting, "AGAIN_S", 0.01)
    monkeypatch.setattr(AnchorAttesting, "_attest", fault)
    logs = await logs_of(anchor_attesting(tmp_path).run())
    assert logs == [("error", "attestations wait")]


async def test_of_retention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "RETRY_S", 0.01)
    monkeypatch.setattr(RetentionProcess, "_turn", lost)
    process = RetentionProcess(server_settings(tmp_path), "", "")
    assert await logs_of(process.run()) == [("info", "due months wait for the database")]


async def test_of_an_append_that_waits_for_its_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_prove", lost)
    monkeypatch.setattr(waiting, "services_of", lambda _: None)
    org = cast("OrgFacts", type("Org", (), {"slug": "acme"}))
    appended = cast("Any", type("Appended", (), {"entries": [1]}))

    async def wait() -> None:
        found = await waiting.signed(cast("Any", None), org, appended)
        assert found == waiting.SignedInclusion("null", ["null"])

    assert await logs_of(wait()) == [("info", "proofs of written entries wait for the database")]


def test_each_peer_has_a_condition_of_its_own(tmp_path: Path) -> None:
    problems = [
        AttestationProblem(
            "cosignature", peer, f"no cosignature for anchor 7: {peer} answered with HTTP 500"
        )
        for peer in ("the witness http://one", "the witness http://two")
    ]
    task = anchor_attesting(tmp_path)
    with capture_logs() as lines:
        for _ in range(3):
            task._report(Attested(0, 0, tuple(problems), ()))
    assert [line["reason"] for line in lines] == [problem.reason for problem in problems]
