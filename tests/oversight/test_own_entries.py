"""A server tells in its own entries what callers read, opened, verified and bundled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from server.trails.own.payloads import BUNDLED, OPENED, READS, REFUSED, VERIFIED
from server.trails.services import Services
from tests.support.blocks import raw_bit
from tests.support.clusters import blocking
from tests.support.offices import office
from tests.support.qwed_log import verdict
from tests.support.serving import Server
from tests.support.signing import fetch
from tests.support.tampering import change_newest, tamper
from tests.support.telling import LATER, own_payloads, run_in, tell


class Watched(NamedTuple):
    """An org of a server, and what the server does with what it counted."""

    server: Server
    org: str
    key: str

    def get(self, path: str, key: str = "") -> Any:
        answer = self.server.request("GET", f"/v1/orgs/{self.org}{path}", key=key or self.key)
        assert answer.status == 200, answer.body
        return answer.json()

    def append(self, *subjects: str) -> list[str]:
        made = []
        for subject in subjects:
            event = {"event_type": "met", "subject": subject}
            path = f"/v1/orgs/{self.org}/entries"
            answer = self.server.request("POST", path, event, key=self.key)
            assert answer.status == 201, answer.body
            made.append(answer.json()["record_id"])
        return made

    @property
    def services(self) -> Services:
        assert self.server.services is not None
        return self.server.services

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return run_in(self.server, work)

    def tell(self, after: timedelta = LATER) -> None:
        tell(self.server, after)

    def own(self, event_type: str, org: str = "") -> list[Any]:
        return own_payloads(self.server, event_type, org or self.org)

    @property
    def key_name(self) -> str:
        return f"key:{self.key.split('_')[2]}"


@pytest.fixture(params=["sealed", "plain"])
def watched(shared_server: Server, request: pytest.FixtureRequest) -> Watched:
    return Watched(shared_server, *shared_server.create_org(request.param))


def test_reads_are_in_the_trail_within_the_hour(watched: Watched) -> None:
    watched.append("anna", "bob", "carl")
    for _ in range(5):
        watched.get("/entries?limit=2")
    watched.get("/head")
    watched.tell(timedelta())
    assert watched.own(READS) == [], "the hour is not over"
    watched.tell()
    (summary,) = watched.own(READS)
    reads = {one["route"]: one for one in summary["reads"] if one["key"] == watched.key_name}
    assert reads["listEntries"]["count"] == 5
    assert (reads["listEntries"]["first_seq"], reads["listEntries"]["last_seq"]) == (1, 2)
    assert reads["getHead"]["first_seq"] is None
    assert summary["silent"] is None
    watched.tell()
    assert len(watched.own(READS)) <= 2, "only what was read since is told"


def test_a_second_summary_names_the_silent_hours(watched: Watched) -> None:
    watched.get("/head")
    watched.tell()
    recorder = watched.services.recorder
    before, recorder._clock = recorder._clock, lambda: before() + 5 * 3_600
    try:
        watched.get("/head")
        watched.tell(timedelta(hours=8))
    finally:
        recorder._clock = before
    watched.run(watched.services.own.flush())
    assert [one["silent"] and one["silent"]["hours"] for one in watched.own(READS)][:2] == [None, 4]


def test_opened_payloads_are_told_once_for_each_key(watched: Watched) -> None:
    first, *_ = watched.append("anna", "bob", "carl")
    viewer = watched.server.create_key(watched.org, "viewer")
    watched.get("/entries")
    watched.get(f"/entries/{first}/payload")
    watched.get(f"/entries/{first}")
    watched.get("/entries", viewer)
    watched.tell(timedelta(seconds=30))
    assert watched.own(OPENED) == []
    watched.tell()
    found = watched.own(OPENED)
    sealed = [(watched.key_name, 3, [[0, 2]])]
    is_sealed = watched.server.request("GET", f"/v1/orgs/{watched.org}", key=watched.key).json()
    expected = sealed if is_sealed["privacy"] == "sealed" else []
    assert [(one["key"], one["count"], one["runs"]) for one in found] == expected
    watched.tell()
    assert watched.own(OPENED) == found, "entries of the server itself are not told"


@pytest.mark.parametrize("watched", ["sealed"], indirect=True)
def test_payloads_that_qwed_s_routes_open_are_told(watched: Watched) -> None:
    path = f"/v1/orgs/{watched.org}/entries"
    for number in range(2):
        answer = watched.server.request("POST", path, verdict(number), key=watched.key)
        assert answer.status == 201, answer.body
    asked = f"/audit/logs/0?organization_id={watched.org}", "/audit/export"
    for route, runs in zip(asked, ([[0, 0]], [[0, 1]]), strict=True):
        answer = watched.server.request("GET", route, key=watched.key)
        assert answer.status == 200, answer.body
        watched.tell()
        assert watched.own(OPENED)[-1]["runs"] == runs


def test_verifications_are_told_with_every_verdict(watched: Watched) -> None:
    (record,) = watched.append("anna")
    path = f"/v1/orgs/{watched.org}/verifications?wait=60"
    answers = [watched.server.request("POST", path, {}, key=watched.key) for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    path = f"/admin/compliance/verify/{record}"
    assert watched.server.request("GET", path, key=watched.key).status == 200
    watched.tell()
    (entry,) = watched.own(VERIFIED)
    assert [(one["scope"], one["count"]) for one in entry["done"]] == [("trail", 3), ("entry", 1)]
    assert all(one["key"] == watched.key_name for one in entry["done"])
    assert entry["done"][0]["checks"]["hashes"] is True
    assert entry["done"][0]["verdict"] == answers[0].json()["result"]["verdict"]


def test_refusals_are_told_in_the_trail_of_their_key_or_in_system(watched: Watched) -> None:
    server, (other, _) = watched.server, watched.server.create_org()
    watched.tell()
    path = f"/v1/orgs/{watched.org}/keys"
    viewer = server.create_key(watched.org, "viewer")
    assert server.request("GET", path, key=viewer).status == 403
    assert server.request("GET", f"/v1/orgs/{other}", key=viewer).status == 404
    guess = f"{viewer.rpartition('_')[0]}_{'0' * 48}"
    assert server.request("GET", path, key=guess).status == 401
    for number in range(300):
        token = f"quire_live_{number:016x}_{'0' * 48}"
        assert server.request("GET", "/v1/whoami", key=token).status == 401
    assert server.request("GET", path).status == 401
    known = len(watched.own(REFUSED, "system"))
    watched.tell()
    (own,) = watched.own(REFUSED)
    name = f"key:{viewer.split('_')[2]}"
    told = {(one["source"], one["reason"], one["count"]) for one in own["refused"]}
    assert told == {(name, reason, 1) for reason in ("forbidden", "not_found", "invalid_key")}
    (system,) = watched.own(REFUSED, "system")[known:]
    counts = {(one["source"], one["reason"]): one["count"] for one in system["refused"]}
    assert counts["127.0.0.0/24", "invalid_key"] == 300
    assert counts["127.0.0.0/24", "no_key"] == 1


def test_what_a_frozen_org_s_callers_read_is_told_after_the_thaw(watched: Watched) -> None:
    watched.append("anna")
    (row,) = blocking(
        fetch(watched.server.database, "SELECT id FROM orgs WHERE slug = $1", watched.org)
    )
    freezes = watched.services.sequencer.freezes
    watched.run(freezes.freeze(row[0], watched.org, "a test"))
    watched.get("/head")
    watched.tell()
    assert watched.own(READS) == []
    thawed = watched.server.request(
        "POST", f"/v1/orgs/{watched.org}/thaw", {"reason": "done"}, key=watched.key
    )
    assert thawed.status == 200, thawed.body
    watched.tell()
    (summary,) = watched.own(READS)
    assert any(one["route"] == "getHead" for one in summary["reads"])


def test_a_changed_row_tells_nothing_and_is_reported(watched: Watched) -> None:
    watched.get("/head")
    watched.run(watched.services.own.flush())
    blocking(fetch(watched.server.database, "UPDATE pending_acts SET at = at - interval '1 day'"))
    watched.tell()
    assert watched.own(READS) == []
    events = watched.get("/security-events?kind=row_not_authentic")["events"]
    assert events[0]["detail"].startswith("rows of table pending_acts")


def test_an_org_whose_trail_is_damaged_keeps_no_other_from_being_told(watched: Watched) -> None:
    damaged = Watched(watched.server, *watched.server.create_org())
    damaged.get("/head")
    watched.tell()
    flipped = change_newest(raw_bit, "ends", 11)
    tamper(watched.server.database, damaged.org, flipped)
    damaged.get("/head")
    watched.run(watched.services.own.flush())
    watched.get("/head")
    watched.tell()
    (summary,) = watched.own(READS)
    assert any(one["route"] == "getHead" for one in summary["reads"])
    tamper(watched.server.database, damaged.org, flipped)
    known = len(damaged.own(READS))
    watched.tell()
    assert len(damaged.own(READS)) == known + 1, "what waited is told"


def test_two_processes_tell_each_act_once(watched: Watched) -> None:
    watched.append("anna")
    watched.get("/head")
    watched.run(watched.services.own.flush())

    async def both() -> None:
        now = datetime.now(UTC) + LATER
        await asyncio.gather(*(watched.services.own.write_due(now) for _ in range(4)))

    watched.run(both())
    assert [len(one["reads"]) for one in watched.own(READS)] == [1]


def test_a_bundle_is_told(shared_server: Server) -> None:
    here = office(shared_server, count=3)
    for _ in range(2):
        here.bundle(from_seq=1, to_seq=2)
    watched = Watched(shared_server, here.org, here.key)
    watched.tell()
    (entry,) = watched.own(BUNDLED)
    (made,) = entry["bundles"]
    assert (made["key"], made["count"], made["entries"]) == (watched.key_name, 2, 2)
    assert (made["first_seq"], made["last_seq"], made["disclosed"]) == (1, 2, [])
