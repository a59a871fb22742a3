"""Servers tell in the trail `system` when they started and stopped, and what changed meanwhile."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

from ledger import sealing
from ledger.entry import to_datetime
from ledger.storage import orgs
from ledger.storage import pending_acts as storage
from ledger.storage.database import Database as Pool
from ledger.storage.pending_acts import PendingActs
from server.process.runs.ending import EndSignal
from server.process.runs.staged import ServedRun, stage_start, stop_staged
from server.settings import Settings
from server.settings.told import ToldSettings
from server.trails.own.server_payloads import STARTED, STOPPED
from server.trails.own.server_runs import StartedRun, run_row
from tests.cli.commands import call
from tests.support.blocks import edit
from tests.support.clusters import Database, blocking
from tests.support.quire_process import QuireProcess
from tests.support.serving import MASTER_KEY, Server, start_server
from tests.support.signing import fetch
from tests.support.tampering import change, tamper
from tests.support.telling import own_payloads, tell

MASTER = bytes.fromhex(MASTER_KEY)
SECRET = "correct-horse-battery-staple"
AWAY = "postgresql://u:p@127.0.0.1:1/d"


def starts(server: Server, **of: str) -> list[Any]:
    """The starts in the trail `system`, each with the entry's own fields, the oldest first."""
    found = [
        {**entry, **start}
        for entry in own_payloads(server, STARTED, "system")
        for start in entry["starts"]
    ]
    return [one for one in found if all(one[name] == value for name, value in of.items())]


def stops(server: Server) -> dict[str, str]:
    """The reasons of the stops in the trail `system`, by run."""
    told = own_payloads(server, STOPPED, "system")
    return {stop["run"]: stop["reason"] for entry in told for stop in entry["stops"]}


def test_a_server_tells_its_stop_its_changed_settings_and_that_it_was_killed(
    database: Database, session_dir: Path
) -> None:
    data_dir = session_dir / secrets.token_hex(4)
    process = QuireProcess(data_dir, database.server_url, workers=2)
    process.start()
    assert process.terminate() == 0
    process._workers = 1
    process.settings(QUIRE_POOL_SIZE="7", QUIRE_METRICS_TOKEN=f"{SECRET}-1")
    process.start()
    process.kill()
    server = start_server(database, data_dir, pool_size=7, metrics_token=f"{SECRET}-2")
    try:
        waiting = blocking(fetch(database, "SELECT body FROM pending_acts"))
        tell(server)
        first, second, third = starts(server)
        assert (first["processes"], first["changed"], first["previous_stop"]) == (2, None, None)
        changed = {one["name"]: (one["before"], one["after"]) for one in second["changed"]}
        assert changed == {
            "QUIRE_POOL_SIZE": (10, 7),
            "QUIRE_METRICS_TOKEN": ("set", "set"),
            "QUIRE_WORKERS": (2, 1),
        }
        assert (second["previous_stop"], second["last_seen"]) == ("orderly", None)
        assert stops(server) == {first["run"]: "SIGTERM"}
        assert third["previous_stop"] == "unknown"
        assert second["at"] <= third["last_seen"] < third["at"]
        assert "QUIRE_METRICS_TOKEN" in {one["name"] for one in third["changed"]}
        assert third["settings"]["QUIRE_DATA_DIR"] == str(data_dir)
        every = [str(starts(server)), process.log.read_text(), *(str(row[0]) for row in waiting)]
        for text in (SECRET, MASTER_KEY, database.server_url):
            assert not any(text in one for one in every)
        shown = _own_entries_in_words(server)
        assert "2 processes; no earlier start to compare with" in shown
        assert "QUIRE_METRICS_TOKEN (secret)" in shown
        assert "QUIRE_POOL_SIZE from 10 to 7" in shown
        assert "nobody knows how it stopped before" in shown
        assert "(SIGTERM)" in shown
        _change_what_the_trail_tells(server)
        second_server = SecondServer(server, Settings.from_env({}, {"data_dir": data_dir}))
        assert second_server.told(second_server.start())["compared_with"] is None
    finally:
        server.stop()


def _change_what_the_trail_tells(server: Server) -> None:
    """Change the entry of the starts in the database."""
    path = f"/v1/orgs/system/entries?event_type={STARTED}"
    (entry,) = server.request("GET", path, key=server.platform_key).json()["entries"]
    payload = entry["payload"]
    payload["settings"]["QUIRE_POOL_SIZE"] = 99
    changed = json.dumps(payload).encode()
    tamper(server.database, "system", change(edit, entry["seq"], payload=changed))


def _own_entries_in_words(server: Server) -> str:
    settings = {"QUIRE_URL": server.url, "QUIRE_API_KEY": server.platform_key, "COLUMNS": "2000"}
    done = call("entries", "list", "system", "--own", settings=settings)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.decode().split())


class SecondServer(NamedTuple):
    """A server whose starts and stops a test stages itself, as another server of its database."""

    server: Server
    settings: Settings

    def start(self, **changes: Any) -> ServedRun:
        """Stage a start; return its run."""
        settings = Settings.from_env({}, {"data_dir": self.settings.data_dir, **changes})

        async def stage() -> ServedRun:
            pool = await Pool.open(self.server.database.server_url, size=1)
            try:
                return await stage_start(settings, MASTER, pool)
            finally:
                await pool.close()

        return asyncio.run(stage())

    def stop(self, run: ServedRun, number: int = signal.SIGTERM) -> None:
        """Stage the stop of a run."""
        ending = EndSignal()
        ending.number = number
        with stop_staged(run, self.server.database.server_url, ending):
            pass

    def told(self, run: ServedRun) -> Any:
        """Tell what waits; return what is told of a run."""
        tell(self.server)
        (found,) = starts(self.server, run=run.id)
        return found


@pytest.fixture
def second_server(shared_server: Server) -> SecondServer:
    """A server with a data directory of its own."""
    own = shared_server.settings.data_dir.with_name(secrets.token_hex(4))
    return SecondServer(shared_server, Settings.from_env({}, {"data_dir": own}))


def test_a_start_is_told_once_and_compared_with_what_the_trail_tells(
    second_server: SecondServer,
) -> None:
    first = second_server.start(pool_size=5)
    told = second_server.told(first)
    assert (told["previous_stop"], told["settings"]["QUIRE_POOL_SIZE"]) == (None, 5)
    second_server.stop(first, signal.SIGINT)
    second = second_server.start(pool_size=6)
    told = second_server.told(second)
    changed = {one["name"]: (one["before"], one["after"]) for one in told["changed"]}
    assert changed == {"QUIRE_POOL_SIZE": (5, 6)}
    assert (told["previous_stop"], told["compared_with"]["run"]) == ("orderly", first.id)
    assert stops(second_server.server)[first.id] == "SIGINT"
    assert second_server.told(second_server.start(pool_size=6))["changed"] == []
    second_server.told(second)  # nothing more of it is told


def test_the_last_entry_before_a_start_says_until_when_a_killed_server_was_seen(
    second_server: SecondServer,
) -> None:
    first = second_server.start()
    second_server.told(first)
    second_server.server.create_key(second_server.server.org, "viewer")
    path = "/v1/orgs/system/entries?limit=1"
    (newest,) = second_server.server.request(
        "GET", path, key=second_server.server.platform_key
    ).json()["entries"]
    told = second_server.told(second_server.start())
    assert (told["previous_stop"], told["last_seen"]) == ("unknown", newest["anchored_at"])


def test_two_servers_on_one_database_are_compared_each_with_itself(
    second_server: SecondServer,
) -> None:
    other = SecondServer(
        second_server.server, Settings.from_env({}, {"data_dir": Path("/srv/other")})
    )
    runs = [one.start(pool_size=size) for size in (3, 4) for one in (second_server, other)]
    tell(second_server.server)
    found = [starts(second_server.server, run=run.id)[0] for run in runs]
    assert [one["previous_stop"] for one in found] == [None, None, "unknown", "unknown"]
    compared = [one["compared_with"] and one["compared_with"]["run"] for one in found[2:]]
    assert compared == [runs[0].id, runs[1].id]
    assert found[1]["compared_with"]["run"] == runs[0].id, "a new server, with the newest"


def test_a_start_that_somebody_else_wrote_into_the_database_tells_nothing(
    second_server: SecondServer,
) -> None:
    second_server.told(first := second_server.start())
    system = _system(second_server.server.database)
    act = StartedRun("f" * 16, "one", "1.0", 1, ToldSettings({}, {}))
    forged = run_row(system, to_datetime(1), act)

    async def forge() -> None:
        pool = await Pool.open(second_server.server.database.server_url, size=1)
        await PendingActs(pool, b"x" * 32).add([forged])
        await pool.close()

    asyncio.run(forge())
    told = second_server.told(second_server.start())
    assert told["compared_with"]["run"] == first.id
    assert starts(second_server.server, run="f" * 16) == []


def test_no_more_starts_wait_than_a_few_thousand(
    second_server: SecondServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(second_server.server)
    bounded = storage.INSERT_BOUNDED.replace(str(storage.MAX_OF_KIND), "3")
    assert bounded != storage.INSERT_BOUNDED
    monkeypatch.setattr(storage, "INSERT_BOUNDED", bounded)
    with capture_logs() as logged:
        for _ in range(5):
            second_server.start()
    assert [one["event"] for one in logged] == [
        "a start or stop is not recorded: too many wait to be told"
    ] * 2
    tell(second_server.server)
    assert len(starts(second_server.server)) >= 3


def _system(database: Database) -> int:
    async def find() -> int:
        pool = await Pool.open(database.server_url, size=1)
        try:
            found = await orgs.org_by_slug(pool, "system")
        finally:
            await pool.close()
        assert found is not None
        return found.id

    return asyncio.run(find())


@contextmanager
def _silent_database() -> Iterator[str]:
    """Yield the URL of a database that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"postgresql://u:p@127.0.0.1:{listener.getsockname()[1]}/d"


@pytest.mark.parametrize("silent", [False, True])
def test_a_stop_neither_fails_nor_waits_for_a_database_that_is_away(silent: bool) -> None:
    run = ServedRun("ab" * 8, "one", sealing.row_key(MASTER))
    with (
        _silent_database() as url,
        capture_logs() as logged,
        stop_staged(run, url if silent else AWAY, EndSignal()),
    ):
        pass
    assert {one["event"] for one in logged} & {
        "the stop of this server is not recorded",
        "the stop of this server is not recorded: the database does not answer",
    }


def test_a_server_that_ends_by_itself_says_so(second_server: SecondServer) -> None:
    run = second_server.start()

    def end() -> None:
        with stop_staged(run, second_server.server.database.server_url, EndSignal()):
            raise OSError("a fault")

    with pytest.raises(OSError, match="a fault"):
        end()
    tell(second_server.server)
    assert stops(second_server.server)[run.id] == "failed"
