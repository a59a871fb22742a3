"""The wall clock of a server leaps: appends wait, nothing is written, and it is reported once."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import blocks
from tests.support.clusters import Database, blocking
from tests.support.quire_process import QuireProcess
from tests.support.serving import AS_OPERATOR
from tests.support.signing import fetch
from tests.support.wrong_clock import WrongClock

DAY_S = 86_400
PATIENCE_S = 60.0
EVENTS = "SELECT kind, detail FROM security_events WHERE kind LIKE 'clock_%' ORDER BY id"
PARTS = (
    f"SELECT relname FROM pg_class WHERE relname ~ '^({blocks.TABLE}|idempotency)_[0-9]' ORDER BY 1"
)
SEALED = "SELECT count(*) FROM pg_trigger WHERE tgname = 'sealed'"
ANCHORED = "SELECT count(*) FROM checkpoints WHERE org_id = 0"


@pytest.fixture
def clock(data_dir: Path) -> WrongClock:
    return WrongClock(data_dir.with_name(f"{data_dir.name}-clock"))


class Served:
    """A server with the test's clock, and an org."""

    def __init__(self, server: QuireProcess, database: Database) -> None:
        self.server = server
        self.database = database
        self.slug, self.key = server.create_org("sealed")

    def request(
        self, method: str, path: str, body: Any = None, **more: str
    ) -> tuple[int, Any, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        headers = {"content-type": "application/json", **(more or {"x-api-key": self.key})}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        kind = answer.getheader("content-type", "")
        value = json.loads(content) if "json" in kind else content.decode()
        return answer.status, value, answer.getheader("retry-after", "")

    def append(self) -> tuple[int, Any, str]:
        return self.request("POST", f"/v1/orgs/{self.slug}/entries", {"action": "approve"})

    def appended(self) -> datetime:
        """Append an entry; returns its time."""
        status, body, _ = self.append()
        assert status == 201, body
        return datetime.fromisoformat(body["anchored_at"])

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.05)

    def until_appends_go_on(self) -> datetime:
        """Wait until all workers append again: each judges by itself, a second or two apart."""
        self.until(lambda: all(self.append()[0] == 201 for _ in range(20)), "appends go on")
        return self.appended()

    def events(self) -> list[tuple[str, str]]:
        return [tuple(row) for row in blocking(fetch(self.database, EVENTS))]

    def log_lines(self) -> list[str]:
        return [line for line in self.server.log.read_text().splitlines() if "clock" in line]

    def metric(self, name: str) -> float:
        found = re.search(rf"^{name} (.+)$", self.server.metrics(), re.MULTILINE)
        return float(found[1]) if found else 0.0


def refused(answer: tuple[int, Any, str]) -> None:
    status, problem, retry_after = answer
    assert status == 503, problem
    assert problem["type"].endswith("/clock-unsteady")
    assert 1 <= int(retry_after) <= 10


@pytest.fixture
def start_with_clock(
    database: Database, data_dir: Path, clock: WrongClock
) -> Iterator[Callable[..., Served]]:
    running: list[QuireProcess] = []

    def start_one(workers: int = 1, hold_s: int = 300) -> Served:
        server = QuireProcess(data_dir, database.server_url, workers)
        server.settings(
            QUIRE_CLOCK_HOLD_SECONDS=str(hold_s), QUIRE_ANCHOR_SECONDS="0.2", **clock.environ
        )
        running.append(server)
        server.start()
        return Served(server, database)

    yield start_one
    for server in running:
        if server.process.poll() is None:
            server.terminate()


def near(moment: datetime, offset_s: float = 0) -> bool:
    expected = datetime.now(UTC) + timedelta(seconds=offset_s)
    return abs((moment - expected).total_seconds()) < PATIENCE_S


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("days", [-400, 400])
def test_appends_wait_until_the_clock_is_back(
    start_with_clock: Callable[..., Served], clock: WrongClock, days: int, workers: int
) -> None:
    served = start_with_clock(workers)
    served.appended()
    served.until(lambda: blocking(fetch(served.database, ANCHORED))[0][0] > 0, "an anchor")
    parts = blocking(fetch(served.database, PARTS))
    clock.set(days * DAY_S)
    for _ in range(10):
        refused(served.append())
    status, ready, _ = served.request("GET", "/readyz", **AS_OPERATOR)
    assert (status, ready["ready"]) == (503, False)
    assert "leapt" in ready["clock"]
    served.until(lambda: served.metric("quire_clock_off_seconds") > 399 * DAY_S, "the metric")
    clock.set(0)
    assert near(served.until_appends_go_on())
    served.until(lambda: len(served.events()) == 2, "the security events")
    (leapt, detail), (steady, after) = served.events()
    assert (leapt, steady) == ("clock_leapt", "clock_steady")
    assert f"{days * DAY_S:+}" in detail
    assert "it leapt back" in after
    assert served.metric("quire_clock_leaps_total") == 1
    served.until(lambda: served.metric("quire_clock_off_seconds") == 0, "the metric's end")
    assert len(served.log_lines()) == 2
    assert blocking(fetch(served.database, PARTS)) == parts
    assert blocking(fetch(served.database, SEALED))[0][0] == 0


@pytest.mark.slow
def test_a_lasting_difference_is_believed_and_seals_no_month(
    start_with_clock: Callable[..., Served], clock: WrongClock
) -> None:
    served = start_with_clock(workers=2, hold_s=3)
    before = served.appended()
    clock.set(40 * DAY_S)
    refused(served.append())
    assert near(served.until_appends_go_on(), 40 * DAY_S)
    clock.set(0)
    refused(served.append())
    assert served.until_appends_go_on() > before + timedelta(days=39)  # the time never decreases
    served.until(lambda: len(served.events()) == 4, "the security events")
    details = [detail for kind, detail in served.events() if kind == "clock_steady"]
    assert all("its time is accepted" in detail for detail in details)
    assert blocking(fetch(served.database, SEALED))[0][0] == 0


def test_a_server_that_starts_while_the_clock_is_wrong_waits(
    start_with_clock: Callable[..., Served], clock: WrongClock
) -> None:
    served = start_with_clock()
    served.appended()
    note = served.server.data_dir / "clock.json"
    served.until(note.exists, "the note")
    assert served.server.terminate() == 0
    parts = blocking(fetch(served.database, PARTS))
    clock.set(400 * DAY_S)
    served.server.launch()

    def answers() -> bool:
        try:
            return served.request("GET", "/livez")[0] == 200
        except OSError:
            return False

    served.until(answers, "the server answers")
    refused(served.append())
    assert blocking(fetch(served.database, PARTS)) == parts
    clock.set(0)
    assert near(served.until_appends_go_on())
    served.server.terminate()
    served.server.start()
    assert near(served.appended())
    assert len(served.events()) == 2


def test_a_first_start_waits_while_its_clock_differs_from_the_database_s(
    start_with_clock: Callable[..., Served], clock: WrongClock, database: Database, data_dir: Path
) -> None:
    clock.set(3_600)
    server = QuireProcess(data_dir, database.server_url)
    server.settings(QUIRE_CLOCK_HOLD_SECONDS="2", **clock.environ)
    server.start()  # ready once the difference is believed
    try:
        served = Served(server, database)
        assert near(served.appended(), 3_600)
        served.until(lambda: len(served.events()) == 2, "the security events")
        assert "the database's clock" in served.events()[0][1]
        assert server.terminate() == 0
        server.settings(QUIRE_CLOCK_HOLD_SECONDS="600")
        server.start()  # a difference once believed is not doubted again at each start
        assert near(served.appended(), 3_600)
    finally:
        server.terminate()
