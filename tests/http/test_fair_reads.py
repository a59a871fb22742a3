"""Searches of one org wait by themselves: others get in, and read, meanwhile (A7)."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from ledger.storage import database
from ledger.storage.entries import search
from server.http.routes import entries
from tests.support.locks import held
from tests.support.serving import PeerAnswer, Server
from tests.support.waiting import PATIENCE_S, until

SEARCHES = 30


def heads_locked(server: Server) -> AbstractContextManager[None]:
    """Hold up every search at its first statement; reads of single entries go on."""
    return held(
        server.database, lambda one: one.execute("LOCK TABLE heads IN ACCESS EXCLUSIVE MODE")
    )


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here does not depend on how fast the machine is."""
    monkeypatch.setattr(search, "SEARCH_S", PATIENCE_S)
    monkeypatch.setattr(entries, "PAGE_WAIT_S", PATIENCE_S)
    monkeypatch.setattr(database, "CONNECT_TIMEOUT_S", PATIENCE_S)


def appended(server: Server, org: str, key: str) -> str:
    made = server.request("POST", f"/v1/orgs/{org}/entries", {"event_type": "met"}, key=key)
    assert made.status == 201
    return str(made.json()["record_id"])


def test_others_get_in_and_read_while_one_org_searches(
    start_servers: Any,
) -> None:
    server: Server = start_servers(pool_size=4)
    busy, busy_key = server.create_org("plain")
    other, other_key = server.create_org("plain")
    appended(server, busy, busy_key)
    record = appended(server, other, other_key)
    fresh = server.create_key(other, "viewer")
    # A key is looked up with a count in its org's head row, which is locked below.
    assert server.request("GET", f"/v1/orgs/{other}", key=fresh).status == 200
    assert server.services is not None
    turns = server.services.database.turns
    pages: list[Future[PeerAnswer]] = []
    with ThreadPoolExecutor(SEARCHES + 1) as callers:

        def find() -> PeerAnswer:
            path = f"/v1/orgs/{busy}/entries?event_type=nomatch"
            return server.request("GET", path, key=busy_key)

        with heads_locked(server):
            pages += [callers.submit(find) for _ in range(SEARCHES)]
            until(lambda: turns.held, "no search has begun")
            entry = server.request("GET", f"/v1/orgs/{other}/entries/{record}", key=fresh)
            assert entry.status == 200
            assert server.request("GET", "/readyz").status == 200
            assert [page.result() for page in pages if page.done()] == []
    assert {page.result().status for page in pages} == {200}
    assert (turns.held, turns.waiting) == (0, 0)


def test_too_many_searches_of_one_org_are_refused(
    start_servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Server = start_servers(pool_size=4)
    busy, key = server.create_org("plain")
    appended(server, busy, key)
    assert server.services is not None
    turns = server.services.database.turns
    monkeypatch.setattr(turns, "_of_org", 0)
    with ThreadPoolExecutor(3) as callers, heads_locked(server):
        path = f"/v1/orgs/{busy}/entries?event_type=nomatch"
        first = callers.submit(server.request, "GET", path, key=key)
        until(lambda: turns.held, "no search has begun")
        refused = server.request("GET", path, key=key)
        assert refused.status == 429
        assert refused.json()["type"].endswith("/too-many-requests")
        assert int(refused.headers["retry-after"]) >= 1
        assert not first.done()
    assert first.result().status == 200
