"""Security events: listed by filters, acknowledged once, by an act that the trail records."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from ledger.storage import security_events
from ledger.storage.database import Database as Storage
from ledger.storage.event_kinds import EVENT_KINDS, OTHER
from server.oversight.entry_kinds import ACKNOWLEDGED
from tests.support.clusters import blocking
from tests.support.serving import PeerAnswer, Server
from tests.support.signing import fetch

KINDS = ("quota_nearly_used", "quota_used_up", "org_frozen", "quota_used_up", "made_up")


class Desk(NamedTuple):
    """An org of a server, with one event of each of KINDS, oldest first."""

    server: Server
    org: str
    key: str
    org_id: int

    def listed(self, query: str = "") -> list[Any]:
        answer = self.server.request("GET", f"{self.path}?limit=1000{query}", key=self.key)
        assert answer.status == 200, answer.body
        events: list[Any] = answer.json()["events"]
        return events

    @property
    def path(self) -> str:
        return f"/v1/orgs/{self.org}/security-events"

    def acknowledge(self, event: int, key: str = "", reason: str = "done") -> PeerAnswer:
        path = f"{self.path}/{event}/acknowledge"
        return self.server.request("POST", path, {"reason": reason}, key=key or self.key)

    def kinds_of_entries(self) -> list[str]:
        answer = self.server.request("GET", f"/v1/orgs/{self.org}/entries", key=self.key)
        return [entry["event_type"] for entry in answer.json()["entries"]]


async def add(url: str, org_id: int | None, *kinds: str) -> None:
    database = await Storage.open(url, size=1)
    try:
        for kind in kinds:
            await security_events.add(
                database, org_id, kind, f"about {kind}", score=7, key_id="k", details='{"a":1}'
            )
    finally:
        await database.close()


def execute(server: Server, statement: str, *values: Any) -> list[Any]:
    return blocking(fetch(server.database, statement, *values))


@pytest.fixture
def desk(shared_server: Server) -> Desk:
    org, key = shared_server.create_org()
    (row,) = execute(shared_server, "SELECT id FROM orgs WHERE slug = $1", org)
    blocking(add(shared_server.database.server_url, row[0], *KINDS))
    return Desk(shared_server, org, key, row[0])


def test_each_event_has_the_severity_and_the_layer_of_its_kind(desk: Desk) -> None:
    listed = desk.listed()
    assert [event["kind"] for event in listed] == [*reversed(KINDS)]
    for event in listed:
        kind = EVENT_KINDS.get(event["kind"], OTHER)
        assert (event["severity"], event["layer"]) == kind[:2]
        assert (event["score"], event["key"], event["details"]) == (7, "k", {"a": 1})
        assert event["acknowledged"] is None


def test_every_event_of_this_server_has_a_listed_kind(desk: Desk) -> None:
    (row,) = execute(desk.server, "SELECT array_agg(DISTINCT kind) FROM security_events")
    assert set(row[0]) - {"made_up"} <= EVENT_KINDS.keys()


def test_filters_leave_out_all_others(desk: Desk) -> None:
    listed = desk.listed()
    assert len(desk.listed("&kind=quota_used_up")) == 2
    assert [event["kind"] for event in desk.listed("&severity=critical")] == ["org_frozen"]
    assert desk.listed(f"&since={listed[1]['at']}") == listed[:2]
    assert desk.listed(f"&until={listed[1]['at']}") == listed[2:]
    assert desk.listed("&kind=quota_used_up&severity=low") == []
    for wrong in ("severity=awful", "since=then", "kind=%00", "acknowledged=perhaps"):
        answer = desk.server.request("GET", f"{desk.path}?{wrong}", key=desk.key)
        assert answer.status == 400, wrong


def test_an_acknowledged_event_is_closed_by_an_entry(desk: Desk) -> None:
    first, *others = reversed(desk.listed())
    answer = desk.acknowledge(first["id"], reason="bigger quota bought")
    assert answer.status == 200, answer.body
    said = answer.json()["acknowledged"]
    assert said["reason"] == "bigger quota bought"
    assert desk.listed("&acknowledged=true") == [answer.json()]
    assert desk.listed("&acknowledged=false") == [*reversed(others)]
    newest = f"/v1/orgs/{desk.org}/entries?limit=1"
    (entry,) = desk.server.request("GET", newest, key=desk.key).json()["entries"]
    assert entry["actor"] == f"key:{said['key']}" == f"key:{desk.key.split('_')[2]}"
    assert entry["event_type"] == ACKNOWLEDGED
    assert entry["payload"]["event"] == first["id"]
    assert entry["payload"]["reason"] == "bigger quota bought"


def test_an_event_is_acknowledged_once(desk: Desk) -> None:
    event = desk.listed()[0]["id"]
    assert desk.acknowledge(event).status == 200
    assert desk.acknowledge(event).status == 409
    assert desk.kinds_of_entries() == [ACKNOWLEDGED]


def test_no_other_org_s_event_can_be_acknowledged(desk: Desk) -> None:
    event = desk.listed()[0]["id"]
    other, key = desk.server.create_org()
    path = f"/v1/orgs/{other}/security-events/{event}/acknowledge"
    for caller in (key, desk.server.platform_key):
        answer = desk.server.request("POST", path, {"reason": "mine"}, key=caller)
        assert answer.status == 404, answer.body
    assert desk.acknowledge(event, key).status == 404
    assert desk.acknowledge(event, desk.server.create_key(desk.org, "member")).status == 403
    assert desk.acknowledge(2**63).status == 400
    assert desk.listed("&acknowledged=true") == []
    assert desk.kinds_of_entries() == []


@pytest.mark.parametrize("reason", ["", "a\x00b", "two\nlines", "x" * 501])
def test_a_reason_that_can_not_be_recorded_is_refused(desk: Desk, reason: str) -> None:
    assert desk.acknowledge(desk.listed()[0]["id"], reason=reason).status == 400
    assert desk.kinds_of_entries() == []


def test_events_of_all_orgs_belong_to_system(desk: Desk) -> None:
    blocking(add(desk.server.database.server_url, None, "clock_leapt"))
    system = desk._replace(org="system", key=desk.server.platform_key)
    (event,) = system.listed("&kind=clock_leapt")
    assert desk.listed("&kind=clock_leapt") == []
    assert system.acknowledge(event["id"]).status == 200
    assert system.listed("&kind=clock_leapt&acknowledged=false") == []
    assert system.acknowledge(desk.listed()[0]["id"]).status == 404


def test_a_frozen_org_lists_its_events_and_acknowledges_none(desk: Desk) -> None:
    reason = "UPDATE heads SET frozen_at = now(), frozen_reason = 'test' WHERE org_id = $1"
    execute(desk.server, reason, desk.org_id)
    event = desk.listed()[0]["id"]
    assert desk.acknowledge(event).status == 423
    assert desk.listed("&acknowledged=true") == []
    thawed = desk.server.request(
        "POST", f"/v1/orgs/{desk.org}/thaw", {"reason": "looked at"}, key=desk.key
    )
    assert thawed.status == 200, thawed.body
    assert desk.acknowledge(event).status == 200


def test_a_forged_acknowledgement_closes_nothing(desk: Desk) -> None:
    event = desk.listed()[0]["id"]
    execute(
        desk.server,
        "INSERT INTO acknowledged_events VALUES ($1, $2, now(), 'k', 'none', '\\x00')",
        event,
        desk.org_id,
    )
    assert desk.listed("&acknowledged=true") == []
    assert event in {one["id"] for one in desk.listed("&acknowledged=false")}
    assert desk.acknowledge(event).status == 500
    assert desk.listed("&kind=row_not_authentic")[0]["detail"].startswith("the row of table ack")


def test_an_acknowledgement_is_not_moved_to_another_event(desk: Desk) -> None:
    first, second, *_ = [one["id"] for one in desk.listed()]
    assert desk.acknowledge(first).status == 200
    execute(
        desk.server,
        "INSERT INTO acknowledged_events SELECT $1, org_id, acknowledged_at, key_id, reason, mac "
        "FROM acknowledged_events WHERE event_id = $2",
        second,
        first,
    )
    assert [one["id"] for one in desk.listed("&acknowledged=true")] == [first]
