"""Refused requests become security events: few, weighed, with digests in place of addresses."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest

from server.access.callers.notes import Cause, NotePlace
from server.addresses import client_of, digest_of
from server.threats.blocks.book import address_book
from server.threats.scores import PATTERNS
from server.threats.writing import MAX_ORG_EVENTS, EventWriter
from tests.support.clusters import blocking
from tests.support.serving import PeerAnswer, Server
from tests.support.signing import fetch
from tests.support.telling import run_in

HERE = "127.0.0.1"


class Watched(NamedTuple):
    """An org of a server whose events a test writes."""

    server: Server
    org: str
    key: str
    org_id: int

    def get(self, path: str, key: str | None = None) -> PeerAnswer:
        return self.server.request("GET", path, key=key or self.key)

    def note(self, kind: str, group: str = "192.0.2.7", *, times: int = 1, **cause: Any) -> None:
        """Note what an engine would note."""
        assert self.server.services is not None
        place = NotePlace(self.org_id, kind, None, group)
        for _ in range(times):
            self.server.services.callers.notes.note(place, Cause(**cause))

    def write(self) -> None:
        services = self.server.services
        assert services is not None
        run_in(self.server, services.part(EventWriter).write_noted())

    def events(self, kind: str = "") -> list[Any]:
        query = f"?limit=1000&kind={kind}" if kind else "?limit=1000"
        answer = self.get(f"/v1/orgs/{self.org}/security-events{query}")
        assert answer.status == 200, answer.body
        events: list[Any] = answer.json()["events"]
        return events

    def threats(self) -> Any:
        answer = self.get(f"/v1/orgs/{self.org}/threats")
        assert answer.status == 200, answer.body
        return answer.json()

    def minutes_pass(self) -> None:
        """Let what was written be written again: as if its period were over."""
        blocking(
            fetch(self.server.database, "DELETE FROM threat_told WHERE org_id = $1", self.org_id)
        )


@pytest.fixture
def watched(shared_server: Server) -> Watched:
    org, key = shared_server.create_org()
    (row,) = blocking(fetch(shared_server.database, "SELECT id FROM orgs WHERE slug = $1", org))
    return Watched(shared_server, org, key, row[0])


def wrong(key: str) -> str:
    return key.rpartition("_")[0] + "_" + "0" * 48


def test_a_flood_of_refused_keys_is_one_event(watched: Watched) -> None:
    for _ in range(30):
        assert watched.get("/v1/whoami", wrong(watched.key)).status == 401
    watched.write()
    (event,) = watched.events("authentication_refused")
    assert event["key"] == watched.key.split("_")[2]
    assert (event["severity"], event["layer"], event["score"]) == ("low", "authentication", 0)
    details = event["details"]
    assert watched.server.services is not None
    address_key = watched.server.services.address_key
    assert details == {
        "count": 30,
        "event_type": "AUTHENTICATION_REFUSED",
        "parts": {},
        "address_digest": digest_of(client_of(HERE), address_key),
        "network": "127.0.0.0/24",
    }
    assert HERE not in str(event).replace("127.0.0.0/24", "")


def test_what_is_not_due_waits_and_is_in_the_next_event(watched: Watched) -> None:
    for count in (2, 3, 4):
        watched.note("blocked", times=count)
        watched.write()
    assert [event["details"]["count"] for event in watched.events()] == [2]
    assert watched.threats()["metrics"]["blocked_attempts"] == 9
    watched.minutes_pass()
    watched.write()
    assert [event["details"]["count"] for event in watched.events()] == [7, 2]
    assert watched.threats()["metrics"]["blocked_attempts"] == 9


def test_a_key_that_asks_for_another_org_is_told_in_its_own(watched: Watched) -> None:
    foreign, _ = watched.server.create_org()
    assert watched.get(f"/v1/orgs/{foreign}/head").status == 404
    assert watched.get(f"/audit/logs?organization_id={foreign}").status == 404
    watched.write()
    (event,) = watched.events("cross_tenant_refused")
    assert (event["score"], event["details"]["count"]) == (30, 2)
    assert event["details"]["parts"] == {"event": 30}


def test_bodies_that_are_too_large_or_malformed_are_told(watched: Watched) -> None:
    path = f"/v1/orgs/{watched.org}"
    for body in (b"{", b'{"event_type": 1}'):
        assert (
            watched.server.request("POST", f"{path}/entries", body, key=watched.key).status == 400
        )
    assert watched.server.request("PATCH", path, b"{", key=watched.key).status == 400
    large = b" " * 70_000
    assert watched.server.request("PATCH", path, large, key=watched.key).status == 413
    assert watched.get(f"{path}/entries?limit=none").status == 400  # no body, no event
    watched.write()
    counts = {event["kind"]: event["details"]["count"] for event in watched.events()}
    assert counts == {"body_malformed": 3, "body_too_large": 1}


def test_the_twelfth_blocked_query_weighs_more(watched: Watched) -> None:
    watched.note("blocked", times=11)
    watched.write()
    watched.minutes_pass()
    watched.note("blocked", times=1)
    watched.write()
    newest, first = watched.events("blocked")
    assert (first["score"], first["details"]["parts"]) == (30, {"event": 30})
    assert newest["details"]["parts"] == {"event": 30, "many_blocked": 30}
    assert newest["details"]["consecutive_failures"] == 11


def test_the_gravest_cause_decides_and_an_alert_is_told_once(watched: Watched) -> None:
    watched.note("injection_detected", reason="a hidden text")
    watched.note("injection_detected", reason=", ".join(PATTERNS), query_chars=1_501)
    watched.write()
    watched.minutes_pass()
    watched.note("injection_detected", reason=", ".join(PATTERNS), query_chars=1_501)
    watched.write()
    assert [event["score"] for event in watched.events("injection_detected")] == [80, 80]
    alerts = watched.events("threat.level_high")
    assert {alert["details"]["subject"] for alert in alerts} == {"org", "address"}
    assert len(alerts) == 2
    assert watched.server.services is not None
    book = watched.server.services.part(address_book)
    run_in(watched.server, book.store())
    digest = watched.events("injection_detected")[0]["details"]["address_digest"]
    assert run_in(watched.server, book.text_of(digest)) == "192.0.2.7"
    assert all("address_digest" not in alert["details"] for alert in alerts)


def test_the_threats_of_an_org_name_who_contributes(watched: Watched) -> None:
    empty = watched.threats()
    assert (empty["level"], empty["score"], empty["keys"], empty["addresses"]) == (
        "LOW",
        None,
        [],
        [],
    )
    watched.note("blocked", "192.0.2.7", times=21)
    watched.note("sanitized", "2001:db8:1:2::/64")
    foreign, _ = watched.server.create_org()
    watched.get(f"/v1/orgs/{foreign}/head")
    watched.write()
    found = watched.threats()
    assert found["level"] == "HIGH"
    assert found["metrics"] == {
        "total_events": 3,
        "blocked_attempts": 22,
        "high_severity_events": 0,
        "recent_failures_10min": 22,
    }
    assert found["by_kind"] == {"blocked": 1, "cross_tenant_refused": 1, "sanitized": 1}
    assert found["by_layer"] == {"authentication": 1, "gateway": 2}
    assert found["score"]["score"] == 60
    assert [key["key"] for key in found["keys"]] == [watched.key.split("_")[2]]
    networks = {one["network"]: one["score"] for one in found["addresses"]}
    assert networks == {"127.0.0.0/24": 60, "192.0.2.0/24": 60, "2001:db8:1::/48": 40}


def test_the_events_of_an_org_are_bounded(watched: Watched) -> None:
    for number in range(MAX_ORG_EVENTS + 30):
        watched.note("rate_limit_exceeded", f"192.0.2.{number}")
    watched.write()
    watched.note("rate_limit_exceeded", "198.51.100.1")
    watched.write()
    events = watched.events()
    assert len(events) == MAX_ORG_EVENTS + 1
    others = [event for event in events if "address_digest" not in event["details"]]
    assert [event["details"]["count"] for event in others] == [30]


def test_notes_that_can_not_be_written_wait(watched: Watched, monkeypatch: Any) -> None:
    services = watched.server.services
    assert services is not None
    watched.note("blocked", times=3)
    with monkeypatch.context() as broken:
        broken.setattr("server.threats.store.ADD_EVENTS", "SELECT 1 / 0 FROM made_up")
        with pytest.raises(Exception, match="made_up"):
            watched.write()
    watched.write()
    assert [event["details"]["count"] for event in watched.events()] == [3]
    assert watched.threats()["metrics"]["blocked_attempts"] == 3


def test_two_processes_write_each_event_once(watched: Watched) -> None:
    services = watched.server.services
    assert services is not None

    async def at_once() -> None:
        watched.note("blocked")
        writers = [EventWriter(services) for _ in range(4)]
        for writer in writers:
            writer._notes = type(services.callers.notes)()
            writer._notes.note(NotePlace(watched.org_id, "blocked", None, "192.0.2.7"))
        await asyncio.gather(*(writer.write_noted() for writer in writers))

    run_in(watched.server, at_once())
    assert len(watched.events("blocked")) == 1
    assert watched.threats()["metrics"]["blocked_attempts"] == 4


def test_qwed_s_shapes(watched: Watched) -> None:
    watched.note("blocked", reason="a jailbreak")
    watched.note("sanitized")
    watched.write()
    found = watched.get(f"/admin/security/threats/{watched.org}").json()
    assert set(found) == {
        "organization_id",
        "period_hours",
        "threat_level",
        "metrics",
        "security_layer_breakdown",
        "generated_at",
    }
    assert (found["organization_id"], found["period_hours"]) == (watched.org, 24)
    assert found["security_layer_breakdown"] == {"gateway": 2}
    page = watched.get("/admin/security/events?limit=1").json()
    assert (page["total"], len(page["events"])) == (2, 1)
    rest = watched.get(f"/admin/security/events?before={page['next_before']}").json()
    assert (rest["total"], rest["next_before"]) == (2, None)
    assert {one["event_type"] for one in page["events"] + rest["events"]} == {
        "BLOCKED",
        "SANITIZED",
    }
    (blocked,) = watched.get("/admin/security/events?event_type=BLOCKED").json()["events"]
    assert set(blocked) == {
        "id",
        "timestamp",
        "event_type",
        "severity",
        "security_layer",
        "reason",
        "query",
        "user_id",
    }
    assert "a jailbreak" in blocked["reason"]


def test_the_threats_of_another_org_are_forbidden(watched: Watched) -> None:
    foreign, _ = watched.server.create_org()
    for slug in (foreign, "no-such-org"):
        assert watched.get(f"/admin/security/threats/{slug}").status == 403
    watched.write()
    (event,) = watched.events("cross_tenant_refused")
    assert event["details"]["count"] == 2
    platform = watched.server.platform_key
    assert watched.get(f"/admin/security/threats/{foreign}", platform).status == 200
    assert watched.get("/admin/security/threats/no-such-org", platform).status == 404
