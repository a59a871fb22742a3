"""A review is an entry of the trail; its reviewer is the caller."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.client import LedgerClient, OrgFrozenError
from server.oversight.entry_kinds import REVIEWED
from tests.support.clusters import blocking
from tests.support.serving import Server
from tests.support.signing import fetch

JANUARY = {"period_start": "2026-01-01", "period_end": "2026-01-31"}
TOMORROW = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()


def newest(server: Server, org: str, key: str) -> list[Any]:
    path = f"/v1/orgs/{org}/entries"
    entries: list[Any] = server.request("GET", path, key=key).json()["entries"]
    return entries


def test_a_review_is_an_entry_of_its_caller(shared_server: Server) -> None:
    org, key = shared_server.create_org()
    with LedgerClient(shared_server.url, key, org) as client:
        done = client.record_review("2026-01-01", "2026-01-31", "all explained")
    (entry,) = newest(shared_server, org, key)
    assert (entry["record_id"], entry["seq"]) == (done.record_id, done.seq)
    assert entry["payload"] == {
        "event_type": REVIEWED,
        "actor": f"key:{key.split('_')[2]}",
        "action": "review",
        **JANUARY,
        "notes": "all explained",
    }
    assert entry["actor"] == done.reviewer == entry["payload"]["actor"]


@pytest.mark.parametrize(
    "changes",
    [
        {"period_end": "2025-12-31"},
        {"period_end": TOMORROW},
        {"period_start": "1969-12-31"},
        {"period_start": "2026-02-30"},
        {"period_start": "2026-01-01T00:00:00Z"},
        {"period_end": None},
        {"notes": "a\u0000b"},
        {"notes": "a\u001b[2J"},
        {"notes": "x" * 2_001},
        {"reviewer": "somebody else"},
        {"actor": "somebody else"},
    ],
    ids=str,
)
def test_a_wrong_review_leaves_no_entry(shared_server: Server, changes: dict[str, Any]) -> None:
    org, key = shared_server.org, shared_server.admin_key
    answer = shared_server.request(
        "POST", f"/v1/orgs/{org}/reviews", {**JANUARY, **changes}, key=key
    )
    assert answer.status == 400, answer.body
    assert newest(shared_server, org, key) == []


def test_a_frozen_org_takes_no_review(shared_server: Server) -> None:
    org, key = shared_server.create_org()
    blocking(
        fetch(
            shared_server.database,
            "UPDATE heads SET frozen_at = now(), frozen_reason = 'test' "
            "WHERE org_id = (SELECT id FROM orgs WHERE slug = $1)",
            org,
        )
    )
    with LedgerClient(shared_server.url, key, org) as client, pytest.raises(OrgFrozenError):
        client.record_review("2026-01-01", "2026-01-31")
