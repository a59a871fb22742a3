"""Acknowledged entries are cut from a running server's database: refused, until a loss is accepted.

The reproductions of A2 in a database that its attacker owns, with kill -9, two workers and thaws.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import run
from tests.support.appending import superuser
from tests.support.blocks import cut, point_head_at
from tests.support.clusters import Database, blocking
from tests.support.quire_process import QuireProcess
from tests.support.waiting import PATIENCE_S, until

FORGE = """
UPDATE heads SET thawed_us = thawed_us + 1, frozen_at = NULL, frozen_reason = NULL
WHERE org_id = $1"""


class Attacked:
    """A server of two workers, with one org, whose database is tampered with."""

    def __init__(self, server: QuireProcess, database: Database) -> None:
        self.server = server
        self.database = database
        self.slug = server.create_org("sealed")[0]
        self.key = (server.data_dir / "platform.key").read_text().strip()

    def request(
        self, method: str, path: str, body: Any = None, org: str | None = None
    ) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"x-api-key": self.key, "content-type": "application/json"}
        url = f"{self.server.url}/v1/orgs/{org or self.slug}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def append(self) -> tuple[int, Any]:
        return self.request("POST", "/entries", {"actor": "anna", "action": "x"})

    def verified(self) -> Any:
        status, job = self.request("POST", "/verifications?wait=60")
        assert (status in {200, 201, 202}, job["state"]) == (True, "done"), job
        return job["result"]

    def signed_size(self, org: str | None = None) -> int:
        signed = self.request("GET", "/checkpoints", org=org)[1]["checkpoints"]
        return int(signed[0]["size"]) if signed else 0

    def newest_of_system(self) -> int:
        """The seq of the newest entry of the trail `system`."""
        return int(self.request("GET", "", org="system")[1]["head"]["seq"])

    def cut(self, first: int, org: str | None = None) -> None:
        """Remove the entries from a seq on, as if they had never been, and forge a thaw."""
        slug = org or self.slug

        async def attack() -> None:
            async with superuser(self.database) as connection, connection.transaction():
                org_id = await connection.fetchval("SELECT id FROM orgs WHERE slug = $1", slug)
                await point_head_at(connection, org_id, first - 1)
                await cut(connection, org_id, first)
                await connection.execute(FORGE, org_id)

        blocking(attack())

    def forge_thaw(self) -> None:
        async def attack() -> None:
            async with superuser(self.database) as connection:
                org_id = await connection.fetchval("SELECT id FROM orgs WHERE slug = $1", self.slug)
                await connection.execute(FORGE, org_id)

        blocking(attack())

    def accept_loss(self, *more: str, org: str | None = None) -> Any:
        settings = {
            **self.server.command_settings(),
            "QUIRE_DATABASE_OWNER_URL": self.database.owner_url,
        }
        reason = ("--reason", "the disk was lost", *more)
        return run("orgs", "accept-loss", org or self.slug, *reason, settings=settings)


@pytest.fixture(params=["unsigned", "signed"])
def attacked(
    request: pytest.FixtureRequest, database: Database, data_dir: Path
) -> Iterator[Attacked]:
    server = QuireProcess(data_dir, database.server_url, workers=2)
    if request.param == "unsigned":
        server.settings(QUIRE_CHECKPOINTS="false")
    server.start()
    yield Attacked(server, database)
    kill_9_all(server)


def kill_9_all(server: QuireProcess) -> None:
    """kill -9 every process of the server, the workers too."""
    pids = server.pids()
    server.kill()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not server.pids(), "the end of all processes")


def assert_refused(attacked: Attacked) -> None:
    for _ in range(4):  # by both workers
        status, problem = attacked.append()
        assert status == 423, problem
        attacked.forge_thaw()
    assert attacked.append()[0] == 423  # frozen again
    status, problem = attacked.request("POST", "/thaw", {"reason": "nothing happened"})
    assert status == 423, problem
    assert "accept-loss" in json.dumps(problem)
    assert attacked.append()[0] == 423


def test_a_cut_is_refused_until_its_loss_is_accepted(attacked: Attacked) -> None:
    server, is_signed = (
        attacked.server,
        "QUIRE_CHECKPOINTS" not in attacked.server.command_settings(),
    )
    assert [attacked.append()[0] for _ in range(6)] == [201] * 6
    refused = attacked.accept_loss()
    server.settings(QUIRE_CHECKPOINTS="true")
    if is_signed:
        until(lambda: attacked.signed_size() >= 6, "the checkpoint")
        assert b"has lost nothing" in refused.stderr
    kill_9_all(server)
    attacked.cut(3)
    server.start()
    assert_refused(attacked)
    result = attacked.verified()
    assert result["verdict"] == "refuted"
    assert "below_acknowledged" in {fault["kind"] for fault in result["errors"]}
    assert_refused(attacked)
    done = attacked.accept_loss("--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["lost"] == {"first_seq": 3, "last_seq": 5}
    assert said["acknowledged"]["seq"] == 5
    status, appended = attacked.append()
    assert status == 201, appended
    assert_recorded(attacked, 6 if is_signed else 3)
    until(lambda: attacked.signed_size() >= (8 if is_signed else 5), "a checkpoint after the loss")
    assert attacked.accept_loss().returncode != 0
    if not is_signed:  # what was never signed leaves no gap in a signed tree
        assert attacked.verified()["errors"] == []


@pytest.mark.parametrize("attacked", ["signed"], indirect=True)
def test_a_cut_of_system_ends_the_start_until_its_loss_is_accepted(attacked: Attacked) -> None:
    """What it recorded last is unknown then: a key that was revoked would work again."""
    server = attacked.server
    made = [attacked.request("POST", "/keys", {"name": "k", "role": "viewer"}) for _ in range(3)]
    assert [status for status, _ in made] == [201] * 3
    before = attacked.newest_of_system()
    until(lambda: attacked.signed_size("system") > before, "the checkpoint")
    kill_9_all(server)
    attacked.cut(before - 1, "system")
    server.launch()
    assert server.process.wait(PATIENCE_S) != 0
    assert "quire orgs accept-loss system" in server.log.read_text()
    done = attacked.accept_loss("--json", org="system")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lost"] == {"first_seq": before - 1, "last_seq": before}
    server.start()
    assert attacked.append()[0] == 201
    assert attacked.request("POST", "/keys", {"name": "k", "role": "viewer"})[0] == 201
    listed = attacked.request("GET", "/keys")[1]["keys"]
    # The rows of keys whose entries are lost are there, and nothing says that they are right.
    assert sorted(key["authentic"] for key in listed) == [False, False, True, True, True]


def assert_recorded(attacked: Attacked, seq: int) -> None:
    entries = attacked.request("GET", "/entries?event_type=quire.loss_accepted")[1]["entries"]
    assert [entry["seq"] for entry in entries] == [seq]


def test_an_acceptance_killed_at_any_step_can_be_repeated(
    database: Database, tmp_path: Path
) -> None:
    """Each statement, COMMIT, store into `acknowledged.heads` and deletion in `signed.sqlite`."""
    urls = [database.owner_url, database.server_url, database.superuser_url]
    script = [sys.executable, "-m", "tests.torture.killed_acceptance"]
    command = [*script, database.name, *urls, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30
