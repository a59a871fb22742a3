"""Security events are sealed into the trail in batches, and a verification compares both."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import pytest

from ledger.core.verification.run import TrailRange, verify_trail
from ledger.core.verification.work.faults import Result
from ledger.errors import KeyNotRestored, SealingError
from ledger.sealed_events import MAX_SEALED, SECURITY_EVENTS
from ledger.storage import security_events
from ledger.storage.acknowledged_events import EventFilter
from ledger.storage.database import Database as Storage
from server.oversight.acts import event_table
from server.trails.services import Services
from tests.cli.commands import call
from tests.support.blocks import flip, remove
from tests.support.clusters import blocking
from tests.support.serving import Server
from tests.support.signing import fetch
from tests.support.tampering import Tampering, change, tamper

LATER: Final = timedelta(hours=2)
CHANGES: Final = {
    "at": "at + interval '1 microsecond'",
    "kind": "kind || 'x'",
    "detail": "detail || 'x'",
    "severity": "'low'",
    "layer": "'mine'",
    "score": "8",
    "key_id": "NULL",
    "details": "'{}'",
}
"""Another value of each column that the digest covers, but for the number."""


class Desk(NamedTuple):
    """An org of a server, its events, and the server's work on them."""

    server: Server
    org: str
    key: str
    org_id: int

    @property
    def services(self) -> Services:
        assert self.server.services is not None
        return self.server.services

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something in the server's own loop."""
        loop = self.services._tasks[0].get_loop()
        return asyncio.run_coroutine_threadsafe(work, loop).result(120)

    def happen(self, count: int = 1, org_id: int | None = -1) -> list[int]:
        """Store events; return their numbers."""
        org_id = self.org_id if org_id == -1 else org_id
        before = self.sql("SELECT coalesce(max(id), 0) FROM security_events")[0][0]
        url = self.server.database.server_url
        blocking(add(url, org_id, count))
        rows = self.sql(
            "SELECT id FROM security_events WHERE id > $1 AND org_id IS NOT DISTINCT FROM $2 "
            "ORDER BY id",
            before,
            org_id,
        )
        return [row[0] for row in rows]

    def sql(self, statement: str, *values: Any) -> list[Any]:
        return blocking(fetch(self.server.database, statement, *values))

    def seal(self, after: timedelta = LATER) -> None:
        """Seal what is due after some time."""
        self.run(self.services.sealing.seal_due(datetime.now(UTC) + after))

    def sealed(self, org: str = "") -> list[list[Any]]:
        """The events of each entry that seals some, the oldest first."""
        path = (
            f"/v1/orgs/{org or self.org}/entries?order=asc&limit=1000&event_type={SECURITY_EVENTS}"
        )
        key = self.server.platform_key
        entries = self.server.request("GET", path, key=key).json()["entries"]
        return [entry["payload"]["events"] for entry in entries]

    def verify(self, **seqs: int) -> Any:
        path = f"/v1/orgs/{self.org}/verifications?wait=60"
        answer = self.server.request("POST", path, seqs, key=self.key)
        assert answer.status == 200, answer.body
        return answer.json()["result"]

    def faults(self) -> set[tuple[str, int]]:
        """The faults of a verification: their kinds, and the events that they name."""
        result = self.verify()
        named = set()
        for fault in result["errors"]:
            assert fault["seq"] == -1
            words = fault["reason"].split()
            assert words[:2] == ["security", "event"]
            named.add((fault["kind"], int(words[2])))
        assert result["checks"]["security_events"] is not (len(named) > 0)
        assert (result["verdict"] == "refuted") == (len(named) > 0)
        return named

    def freeze(self) -> None:
        freezes = self.services.sequencer.freezes
        self.run(freezes.freeze(self.org_id, self.org, "a test"))

    def thaw(self) -> None:
        path = f"/v1/orgs/{self.org}/thaw"
        thawed = self.server.request("POST", path, {"reason": "done"}, key=self.key)
        assert thawed.status == 200, thawed.body


async def add(url: str, org_id: int | None, count: int) -> None:
    database = await Storage.open(url, size=1)
    try:
        for number in range(count):
            await security_events.add(
                database, org_id, "made_up", f"{number}", score=7, key_id="k", details='{"a":1}'
            )
    finally:
        await database.close()


@pytest.fixture(params=["sealed"])
def desk(shared_server: Server, request: pytest.FixtureRequest) -> Desk:
    org, key = shared_server.create_org(request.param)
    path = f"/v1/orgs/{org}/entries"
    assert shared_server.request("POST", path, {"event_type": "met"}, key=key).status == 201
    rows = blocking(fetch(shared_server.database, "SELECT id FROM orgs WHERE slug = $1", org))
    return Desk(shared_server, org, key, rows[0][0])


@pytest.mark.parametrize("desk", ["sealed", "plain"], indirect=True)
def test_events_are_sealed_once_in_a_batch(desk: Desk) -> None:
    numbers = desk.happen(3)
    desk.seal(-LATER)
    assert desk.sealed() == [], "they are too young"
    desk.seal()
    (events,) = desk.sealed()
    assert [event["id"] for event in events] == numbers
    listed, _ = desk.run(
        desk.services.part(event_table).page(desk.org_id, EventFilter(), 2**63 - 1, 9, of_all=False)
    )
    rows = {one.row.id: one.row for one in listed}
    for event in events:
        row = rows[event["id"]]
        assert event["digest"] == row.digest().hex()
        assert (event["kind"], event["severity"]) == (row.kind, row.severity)
    desk.seal()
    assert len(desk.sealed()) == 1, "nothing happened since"
    assert desk.verify()["checks"]["security_events"] is True
    assert desk.faults() == set()


def test_every_changed_removed_and_withheld_event_is_named(desk: Desk) -> None:
    changed = desk.happen(len(CHANGES))
    removed, moved, vanished, right = desk.happen(4)
    desk.seal()
    other, _ = desk.server.create_org()
    for number, (column, value) in zip(changed, CHANGES.items(), strict=True):
        desk.sql(f"UPDATE security_events SET {column} = {value} WHERE id = $1", number)
    desk.sql("DELETE FROM security_events WHERE id = ANY ($1)", [removed, vanished])
    desk.sql("DELETE FROM sealed_events WHERE event_id = $1", vanished)
    elsewhere = (
        "UPDATE security_events SET org_id = (SELECT id FROM orgs WHERE slug = $2) WHERE id = $1"
    )
    desk.sql(elsewhere, moved, other)
    hidden, hidden_ahead = desk.happen(2)
    desk.sql(
        "INSERT INTO sealed_events VALUES ($1, $3), ($2, $3)", hidden, hidden_ahead, desk.org_id
    )
    older = "UPDATE security_events SET at = now() + $2::text::interval WHERE id = $1"
    desk.sql(older, hidden, "-1 day")
    desk.sql(older, hidden_ahead, "1 day")
    assert desk.faults() == {
        *(("event_changed", number) for number in changed),
        *(("event_missing", number) for number in (removed, moved, vanished)),
        *(("event_unsealed", number) for number in (hidden, hidden_ahead)),
    }
    assert right in {event["id"] for events in desk.sealed() for event in events}
    events = desk.server.request("GET", f"/v1/orgs/{desk.org}/security-events", key=desk.key)
    assert "security_events_altered" in {one["kind"] for one in events.json()["events"]}
    assert desk.services.register.freeze_of(desk.org_id) is None


def test_an_event_that_was_changed_and_sealed_again_is_named(desk: Desk) -> None:
    changed, same = desk.happen(2)
    desk.seal()
    desk.sql("UPDATE security_events SET detail = 'nothing' WHERE id = $1", changed)
    desk.sql("DELETE FROM sealed_events WHERE event_id = ANY ($1)", [changed, same])
    desk.seal()
    assert [len(events) for events in desk.sealed()] == [2, 2]
    assert desk.faults() == {("event_contradicted", changed)}


def test_events_of_a_frozen_org_wait_for_its_thaw(desk: Desk) -> None:
    desk.freeze()
    waiting = desk.happen(2)
    desk.sql("UPDATE security_events SET at = at - interval '1 day' WHERE org_id = $1", desk.org_id)
    desk.seal()
    assert desk.sealed() == []
    result = desk.verify()
    assert (result["verdict"], result["checks"]["security_events"]) == ("verified", "not_checked")
    assert result["reasons"]["security_events"].endswith("(3): the org is frozen")
    desk.thaw()
    assert desk.faults() == set(), "a verification seals what is due"
    (events,) = desk.sealed()
    assert [event["id"] for event in events][1:] == waiting
    assert events[0]["kind"] == "org_frozen"


def test_a_range_compares_no_events(desk: Desk) -> None:
    desk.happen()
    desk.seal()
    desk.sql("DELETE FROM security_events WHERE org_id = $1", desk.org_id)
    result = desk.verify(from_seq=0, to_seq=0)
    assert (result["verdict"], result["checks"]["security_events"]) == ("verified", "not_checked")
    assert result["reasons"]["security_events"] == "they are compared with a whole trail only"


def test_two_processes_seal_each_event_once(desk: Desk) -> None:
    numbers = desk.happen(3)

    async def both() -> None:
        await asyncio.gather(*(desk.services.sealing.seal(desk.org_id) for _ in range(4)))

    desk.run(both())
    (events,) = desk.sealed()
    assert [event["id"] for event in events] == numbers


def test_a_flood_of_events_makes_few_entries(desk: Desk) -> None:
    desk.sql(
        "INSERT INTO security_events (org_id, kind, detail) "
        "SELECT $1, 'flood', n::text FROM generate_series(1, 10000) n",
        desk.org_id,
    )
    desk.seal()
    assert [len(events) for events in desk.sealed()] == [MAX_SEALED] * 20
    assert desk.faults() == set()
    desk.sql("UPDATE security_events SET detail = 'x' WHERE org_id = $1", desk.org_id)
    result = desk.verify()
    assert result["fault_count"] == len(result["errors"]) == 501
    assert result["errors"][-1]["reason"].startswith("9,500 more security events, from ")


def test_events_of_all_orgs_are_sealed_in_system(desk: Desk) -> None:
    (number,) = desk.happen(org_id=None)
    (own,) = desk.happen()
    desk.seal()
    assert number in {event["id"] for event in desk.sealed("system")[-1]}
    assert [event["id"] for events in desk.sealed() for event in events] == [own]
    (system_id,) = desk.sql("SELECT id FROM orgs WHERE slug = 'system'")[0]
    system = desk._replace(org="system", key=desk.server.platform_key, org_id=system_id)
    assert system.verify()["checks"]["security_events"] is True
    desk.sql("UPDATE security_events SET detail = 'x' WHERE id = $1", number)
    assert ("event_changed", number) in system.faults()
    desk.sql("UPDATE security_events SET detail = '0' WHERE id = $1", number)


@pytest.mark.parametrize(
    "damage", [change(remove, 1, 1), change(flip, 1, "payload", 9)], ids=["removed", "altered"]
)
def test_a_damaged_entry_accuses_no_event(desk: Desk, damage: Tampering) -> None:
    """The entry is named then; which events it sealed, nobody can say."""
    (number,) = desk.happen()
    older = "UPDATE security_events SET at = at - interval '1 day' WHERE id = $1"
    desk.sql(older, number)
    desk.seal()
    path = f"/v1/orgs/{desk.org}/entries"
    desk.server.request("POST", path, {"event_type": "met"}, key=desk.key)
    tamper(desk.server.database, desk.org, damage)
    result = desk.verify()
    assert [fault["seq"] for fault in result["errors"]] == [1]
    assert (result["verdict"], result["checks"]["security_events"]) == ("refuted", "not_checked")
    assert "entry 1" in (why := result["reasons"]["security_events"]) or f"is {number}" in why


async def opened(desk: Desk, **trust: Any) -> Result:
    """Verify the trail with another trust."""
    services = desk.services
    target = TrailRange(desk.org_id, desk.org)
    given = (await services.sealing.trust(target))._replace(**trust)
    url = desk.server.database.server_url
    return await verify_trail(url, target, services.keyring(True), processes=1, events=given)


def test_an_entry_that_does_not_open_leaves_the_verdict_open(desk: Desk) -> None:
    desk.happen()
    desk.seal()

    def closed(_: str | None, __: bytes, ___: int) -> bytes:
        raise SealingError("the key does not open it")

    found = desk.run(opened(desk, open=closed))
    assert (found.verdict, found.checks.security_events) == ("incomplete", "not_checked")
    reason = found.reasons["security_events"]
    assert reason == "entry 1 seals security events, but the key does not open it"
    found = desk.run(opened(desk, open=lambda *_: b"{}"))
    assert found.verdict == "incomplete"


def test_what_an_archive_did_not_bring_back_is_not_accused(desk: Desk) -> None:
    gone, again, changed = desk.happen(3)
    desk.seal()
    (events,) = desk.sealed()
    desk.sql("DELETE FROM security_events WHERE id = $1", gone)
    # Another event of the new database has the number of an old one; a third one was changed.
    now = "UPDATE security_events SET at = now(), kind = 'new', detail = 'new' WHERE id = $1"
    desk.sql(now, again)
    found = desk.run(opened(desk, restored=2))
    assert (found.verdict, found.checks.security_events) == ("verified", "not_checked")
    assert "came back from its archive" in found.reasons["security_events"]
    desk.sql("UPDATE security_events SET detail = 'x' WHERE id = $1", changed)
    found = desk.run(opened(desk, restored=2))
    assert [fault.kind for fault in found.errors] == ["event_changed"]
    found = desk.run(opened(desk, restored=1))
    assert {fault.kind for fault in found.errors} == {"event_changed", "event_missing"}
    assert len(events) == len(found.errors) == 3

    def closed(_: str | None, __: bytes, ___: int) -> bytes:
        raise KeyNotRestored("the key was not restored")

    found = desk.run(opened(desk, restored=2, open=closed))
    assert (found.verdict, found.checks.security_events) == ("verified", "not_checked")


def test_the_command_line_names_events_and_what_seals_them(desk: Desk) -> None:
    numbers = desk.happen(4)
    desk.seal()
    desk.sql("UPDATE security_events SET detail = 'x' WHERE id = $1", numbers[2])
    settings = {"QUIRE_URL": desk.server.url, "QUIRE_API_KEY": desk.key, "COLUMNS": "2000"}
    own = call("entries", "list", desk.org, "--own", settings=settings)
    first = "; ".join(f"{number} made_up (medium)" for number in numbers[:3])
    assert f"sealed 4 security events: {first} and 1 more" in own.stdout.decode()
    verdict = call("verify", desk.org, settings=settings)
    text = " ".join(verdict.stdout.decode().split())
    assert (verdict.returncode, verdict.stderr) == (1, b"")
    assert "Faults 1, none of them in an entry" in text
    assert "security_events" in text
    changed = f"security event {numbers[2]} was changed in the database"
    assert f"- event_changed {changed}: entry 1 sealed another digest" in text
