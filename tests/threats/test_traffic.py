"""Traffic is counted where requests come in, kept in the database, and judged by one process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from server.access.callers.traffic import TrafficCounts
from server.addresses import client_of, digest_of
from server.threats.blocks.automatic import AutomaticBlocks
from server.threats.blocks.book import address_book
from server.threats.blocks.parts import block_changes
from server.threats.traffic.anomalies import DAY_MINUTES
from server.threats.traffic.counting import TrafficCounting
from server.threats.traffic.history import EarlierDay, MinuteTally, TrafficHistory, TrafficSubject
from server.threats.traffic.watch import TrafficWatch
from tests.support.clusters import blocking
from tests.support.serving import Server
from tests.support.signing import fetch
from tests.support.telling import run_in

WEEK = 7 * DAY_MINUTES
STRANGER = "203.0.113.9"


class Road(NamedTuple):
    """The traffic of a server; ``minute`` is one to be judged, a week after the first."""

    server: Server
    org: str
    key: str
    org_id: int
    minute: int

    @property
    def services(self) -> Any:
        assert self.server.services is not None
        return self.server.services

    def sql(self, statement: str, *values: Any) -> list[Any]:
        return blocking(fetch(self.server.database, statement, *values))

    def usual(self, subject: TrafficSubject, requests: int) -> None:
        """Let somebody have sent as many requests in each minute of a week and an hour."""

        async def add() -> None:
            async with self.services.database.transaction() as connection:
                history = TrafficHistory(connection)
                await history.add(self.minute - WEEK, {subject: MinuteTally(requests)})
                await connection.execute(
                    """INSERT INTO threat_minutes
                       SELECT m, s.id, $2, 0, 0 FROM threat_subjects s,
                              generate_series($3::int, $4::int) m
                       WHERE s.org_id = $1 ON CONFLICT DO NOTHING""",
                    subject.org_id,
                    requests,
                    self.minute - WEEK,
                    self.minute - 2,
                )
                await history.compact(self.minute)

        run_in(self.server, add())

    def see(self, minute: int, counts: dict[TrafficSubject, MinuteTally]) -> None:
        async def add() -> None:
            async with self.services.database.transaction() as connection:
                await TrafficHistory(connection).add(minute, counts)

        run_in(self.server, add())

    def look(self, minute: int | None = None) -> None:
        """Look as any process does, one that has just been started too, at nothing but given counts."""
        self.services.callers.traffic.take()
        run_in(self.server, TrafficWatch(self.services).look(minute or self.minute))

    def anomalies(self, org: str = "") -> list[Any]:
        path = f"/v1/orgs/{org or self.org}/security-events?kind=traffic_anomaly&limit=1000"
        answer = self.server.request("GET", path, key=self.server.platform_key)
        events: list[Any] = answer.json()["events"]
        return events


@pytest.fixture
def road(shared_server: Server) -> Iterator[Road]:
    org, key = shared_server.create_org()
    (row,) = blocking(fetch(shared_server.database, "SELECT id FROM orgs WHERE slug = $1", org))
    assert shared_server.services is not None
    shared_server.services.callers.traffic.take()
    minute = run_in(shared_server, _minute(shared_server))
    yield Road(shared_server, org, key, row[0], minute)
    for table in ("subjects", "minutes", "hours", "days"):
        blocking(fetch(shared_server.database, f"DELETE FROM threat_{table}"))


async def stuff(road: Road, minute: int, address: str = STRANGER) -> None:
    """Count refused keys of an address in a minute, enough to be odd."""
    for _ in range(31):
        road.services.callers.refused(None, None, address, "invalid_key")
    counting = road.services.part(TrafficCounting)
    counting._minute = minute
    await counting.store()


async def _minute(server: Server) -> int:
    assert server.services is not None
    return server.services.part(TrafficCounting).minute()


def test_requests_refusals_and_failures_are_counted_by_caller(road: Road) -> None:
    head = f"/v1/orgs/{road.org}/head"
    wrong = road.key.rpartition("_")[0] + "_" + "0" * 48
    for path, key, status in (
        (head, road.key, 200),
        (head, road.key, 200),
        (f"/v1/orgs/{road.org}/entries?limit=none", road.key, 400),
        (head, wrong, 401),
    ):
        assert road.server.request("GET", path, key=key).status == status
    run_in(road.server, road.services.part(TrafficCounting).store())
    found = road.sql(
        "SELECT s.kind, s.admitted, sum(m.requests), sum(m.refusals), sum(m.failures) "
        "FROM threat_minutes m JOIN threat_subjects s ON s.id = m.subject_id "
        "WHERE s.org_id = $1 GROUP BY 1, 2 ORDER BY 1",
        road.org_id,
    )
    assert [tuple(row) for row in found] == [
        ("address", True, 3, 1, 1),
        ("key", True, 3, 1, 1),
        ("org", True, 3, 1, 1),
    ]


def test_a_spike_is_told_with_what_is_usual_once_while_it_lasts(road: Road) -> None:
    org = TrafficSubject(road.org_id, "org", "")
    road.usual(org, 100)
    for minute in (road.minute - 1, road.minute):
        road.see(minute, {org: MinuteTally(1_000)})
    road.look()
    road.look()
    (event,) = road.anomalies()
    assert (event["severity"], event["layer"], event["score"]) == ("high", "traffic", 96)
    assert event["details"] == {
        "subject": "org",
        "rule": "minutes",
        "what": "requests",
        "seen": [1_000, 1_000],
        "usual": [0, 301],
        "deviations": 27.0,
    }
    assert "1,000 and 1,000 requests" in event["detail"]
    threats = road.server.request("GET", f"/v1/orgs/{road.org}/threats", key=road.key).json()
    assert (threats["score"]["score"], threats["score"]["parts"]) == (96, {"anomaly": 96})


def test_a_part_of_a_minute_is_enough_for_what_is_odd_already(road: Road) -> None:
    org = TrafficSubject(road.org_id, "org", "")
    road.usual(org, 100)
    road.see(road.minute - 1, {org: MinuteTally(1_000)})
    road.see(road.minute, {org: MinuteTally(299)})
    road.look()
    assert road.anomalies() == []
    road.see(road.minute, {org: MinuteTally(2)})
    road.look()
    assert [event["details"]["seen"] for event in road.anomalies()] == [[1_000, 301]]


def test_who_is_known_for_less_than_a_day_is_not_judged(road: Road) -> None:
    org = TrafficSubject(road.org_id, "org", "")
    for minute in range(road.minute - 5, road.minute + 1):
        road.see(minute, {org: MinuteTally(5_000)})
    road.look()
    assert road.anomalies() == []


def test_credential_stuffing_from_a_new_address_is_told_in_each_minute(road: Road) -> None:
    before = len(road.anomalies("system"))
    for minute in (road.minute - 1, road.minute):
        run_in(road.server, stuff(road, minute))
    road.look()
    road.look()
    events = road.anomalies("system")
    assert len(events) == before + 1
    road.sql("DELETE FROM threat_told")  # a minute later
    run_in(road.server, stuff(road, road.minute + 1))
    road.look(road.minute + 1)
    events = road.anomalies("system")
    assert len(events) == before + 2
    digest = digest_of(client_of(STRANGER), road.services.address_key)
    assert events[0]["details"]["address_digest"] == digest
    assert (events[0]["details"]["rule"], events[0]["details"]["what"]) == ("stranger", "refusals")
    assert events[0]["score"] >= 75
    assert STRANGER not in str(events)
    book = road.services.part(address_book)
    run_in(road.server, book.store())
    assert run_in(road.server, book.text_of(digest)) == STRANGER


def test_five_minutes_of_refusals_lead_to_a_block(road: Road) -> None:
    services, address = road.services, "203.0.113.77"
    rule = AutomaticBlocks(
        services.database,
        services.part(block_changes),
        services.blocked,
        services.part(address_book),
        5,
    )
    minutes = range(road.minute - 5, road.minute + 1)
    for minute in minutes:
        run_in(road.server, stuff(road, minute, address))
        road.sql("DELETE FROM threat_told")  # a minute passes
        road.look(minute)
        run_in(road.server, services.part(address_book).store())
        run_in(road.server, rule.apply())  # if the server's own task has not just done it
        run_in(road.server, services.register.catch_up())
        is_blocked = services.blocked.until_us(client_of(address)) is not None
        assert is_blocked == (minute == minutes[-1])


def test_what_an_address_is_let_in_for_does_not_count_for_a_block(road: Road) -> None:
    address = TrafficSubject(road.org_id, "address", "0f" * 16, "192.0.2.0/24")
    road.usual(address, 100)
    for minute in (road.minute - 1, road.minute):
        road.see(minute, {address: MinuteTally(1_000, 500, 900)})
    road.look()
    events = road.anomalies()
    assert {event["details"]["what"] for event in events} == {"requests", "refusals", "failures"}
    for event in events:
        assert "address_digest" not in event["details"]
        assert event["details"]["subject_digest"] == "0f" * 16


def test_compacted_hours_say_what_the_minutes_said(road: Road) -> None:
    org = TrafficSubject(road.org_id, "org", "")
    near = (-71, -70, -11, -10, 0, 10, 11)
    for day in range(1, 9):
        for at in near:
            road.see(
                road.minute - DAY_MINUTES * day + at, {org: MinuteTally(100 * day + at, 0, abs(at))}
            )

    async def read() -> list[EarlierDay]:
        async with road.services.database.transaction() as connection:
            history = TrafficHistory(connection)
            await history.compact(road.minute)
            ids = [row[0] for row in await connection.fetch("SELECT id FROM threat_subjects")]
            (found,) = (await history.days(ids, road.minute)).values()
            return found

    found = sorted(run_in(road.server, read()))
    assert [day.most for day in found] == [
        MinuteTally(100 * day + 10, 0, 10) for day in range(1, 8)
    ]
    for number, day in enumerate(found, 1):
        assert sorted(day.hour[0]) == [100 * number - 70, 100 * number - 11]
        assert sorted(day.hour[2]) == [11, 70]
    total = road.sql("SELECT sum(requests)::int FROM threat_days")[0][0]
    assert total == sum(100 * day + at for day in range(1, 9) for at in near)
    assert road.sql("SELECT count(*) FROM threat_minutes")[0][0] == 0


def test_processes_add_to_the_same_minute_at_once(road: Road) -> None:
    names = [f"{n:032x}" for n in range(20)]

    async def add(order: list[str]) -> None:
        async with road.services.database.transaction() as connection:
            counts = {
                TrafficSubject(road.org_id, "address", name): MinuteTally(1, 2, 3) for name in order
            }
            await TrafficHistory(connection).add(road.minute, counts)

    async def at_once() -> None:
        await asyncio.gather(*(add(names[::step]) for step in (1, -1, 1, -1)))

    run_in(road.server, at_once())
    rows = road.sql("SELECT requests, refusals, failures FROM threat_minutes")
    assert [tuple(row) for row in rows] == [(4, 8, 12)] * 20


def test_a_day_that_grew_is_told_once(road: Road) -> None:
    org = TrafficSubject(road.org_id, "org", "")
    day = road.minute // DAY_MINUTES
    road.see(road.minute - 5 * WEEK, {org: MinuteTally(1)})
    for week in range(1, 5):
        road.see((day - 7 * week) * DAY_MINUTES, {org: MinuteTally(10_000)})
    road.see(
        day * DAY_MINUTES - 5 * 60, {org: MinuteTally(30_000)}
    )  # yesterday, whose weeks had none
    road.look()
    road.look()
    path = f"/v1/orgs/{road.org}/security-events?kind=traffic_growth"
    events = road.server.request("GET", path, key=road.key).json()["events"]
    assert [(one["details"]["day"], one["details"]["seen"]) for one in events] == [
        (day - 1, [30_000])
    ]


def test_the_number_of_keys_and_addresses_is_bounded_for_each_org(road: Road) -> None:
    addresses = [TrafficSubject(road.org_id, "address", f"{n:032x}", "") for n in range(12)]
    for age, address in enumerate(addresses):
        road.see(road.minute - age, {address: MinuteTally(1)})
    other = TrafficSubject(road.org_id + 1, "address", "ff" * 16, "")
    road.see(
        road.minute - 100,
        {other: MinuteTally(1), TrafficSubject(road.org_id, "org", ""): MinuteTally(1)},
    )

    async def bound() -> None:
        async with road.services.database.transaction() as connection:
            await TrafficHistory(connection).bound(50)

    run_in(road.server, bound())
    rows = road.sql("SELECT org_id, kind, name FROM threat_subjects ORDER BY org_id, kind, name")
    kept = [f"{n:032x}" for n in range(10)]
    assert [tuple(row) for row in rows] == [
        *[(road.org_id, "address", name) for name in kept],
        (road.org_id, "org", ""),
        (road.org_id + 1, "address", "ff" * 16),
    ]


def test_old_counts_are_deleted(road: Road) -> None:
    org = TrafficSubject(road.org_id, "org", "")
    for days in (1, 7, 10, 28, 40):
        road.see(road.minute - days * DAY_MINUTES, {org: MinuteTally(1)})
    road.see(
        road.minute - 40 * DAY_MINUTES, {TrafficSubject(road.org_id, "key", "gone"): MinuteTally(1)}
    )
    road.look()
    hours, days, subjects = road.sql(
        "SELECT (SELECT count(*) FROM threat_hours), (SELECT count(*) FROM threat_days), "
        "(SELECT count(*) FROM threat_subjects WHERE org_id <> 0)"
    )[0]
    assert (hours, days, subjects) == (2, 4, 1)


def test_what_can_not_be_stored_is_counted_later() -> None:
    traffic = TrafficCounts()
    traffic.admitted(1, "k", "192.0.2.1")
    taken = traffic.take()
    traffic.admitted(1, "k", "192.0.2.1")
    traffic.refused(2, "", "192.0.2.2")
    traffic.give_back(taken)
    assert traffic.take() == {(1, "k", "192.0.2.1"): [2, 0, 0], (2, "", "192.0.2.2"): [0, 1, 0]}
    assert traffic.take() == {}
