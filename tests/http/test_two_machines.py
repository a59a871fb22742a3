"""Servers on two machines, one of which lacks the key that the other signs with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from ledger.keys import SigningKey, SigningKeyring, dump_keyring
from server.cli.base.private_file import replace_private_file
from tests.support.clusters import Database, blocking
from tests.support.serving import PeerAnswer, Server, start_server
from tests.support.signing import fetch
from tests.support.waiting import until

OLD, NEW = SigningKey("k-old", b"o" * 32), SigningKey("k-new", b"n" * 32)
BEFORE = SigningKeyring([OLD], ["k-old"])
ADDED = BEFORE.with_keys([NEW])
ACTIVATED = ADDED.activated("k-new")


class Machine(NamedTuple):
    """A server with a data directory and a keyring file of its own."""

    server: Server
    keyring: Path

    def holds(self, ring: SigningKeyring) -> None:
        """Replace the keyring file; the running server takes it up."""
        replace_private_file(self.keyring, dump_keyring(ring))
        assert self.server.services is not None
        taken_up = self.server.services.keyring(True)
        assert set(ring.ids()) <= set(taken_up.ids())
        assert taken_up.active.key_id == ring.active.key_id

    def append(self, org: str, key: str) -> PeerAnswer:
        path = f"/v1/orgs/{org}/entries"
        return self.server.request("POST", path, {"event_type": "x"}, key=key)

    def verify(self, org: str, key: str) -> Any:
        path = f"/v1/orgs/{org}/verifications?wait=60"
        return self.server.request("POST", path, key=key).json()["result"]


@pytest.fixture
def machines(database: Database, session_dir: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines, both with the old key alone."""
    made: list[Machine] = []
    for _ in range(2):
        directory = session_dir / uuid4().hex[:8]
        directory.mkdir()
        if made:
            shutil.copy(made[0].server.settings.data_dir / "platform.key", directory)
        keyring = directory / "signing-keys.json"
        replace_private_file(keyring, dump_keyring(BEFORE))
        made.append(Machine(start_server(database, directory), keyring))
    yield made[0], made[1]
    for machine in made:
        machine.server.stop()


def frozen(database: Database) -> int:
    rows = blocking(fetch(database, "SELECT 1 FROM heads WHERE frozen_at IS NOT NULL"))
    events = blocking(fetch(database, "SELECT 1 FROM security_events WHERE kind = 'org_frozen'"))
    return len(rows) + len(events)


def test_an_append_after_an_unknown_key_is_503_and_freezes_nobody(
    machines: tuple[Machine, Machine], database: Database
) -> None:
    ahead, behind = machines
    org, key = ahead.server.create_org()
    assert behind.append(org, key).status == 201
    ahead.holds(ACTIVATED)
    assert ahead.append(org, key).status == 201
    for _ in range(2):
        refused = behind.append(org, key)
        assert refused.status == 503, refused.body
        assert refused.json()["type"].endswith("/signing-key-missing")
        assert "k-new" in refused.json()["detail"]
        assert "quire keys signing add --import" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 0
    verified = behind.verify(org, key)
    assert verified["verdict"] == "incomplete"
    assert verified["checks"]["signatures"] == "not_checked"
    assert "keyring lacks a key" in verified["reasons"]["signatures"]
    assert frozen(database) == 0
    assert ahead.append(org, key).status == 201, "the machine with the key goes on"
    behind.holds(ADDED)
    assert behind.append(org, key).status == 201, "without a restart"
    entries = ahead.server.request("GET", f"/v1/orgs/{org}/entries?order=asc", key=key).json()
    signed = [entry["key"] for entry in entries["entries"]]
    assert signed == ["k-old", "k-new", "k-new", "k-old"]


def test_what_another_machine_changed_under_an_unknown_key_is_503_until_it_is_added(
    machines: tuple[Machine, Machine], database: Database
) -> None:
    ahead, behind = machines
    ahead.holds(ACTIVATED)
    org, key = ahead.server.create_org()
    reading = behind.server.request("GET", f"/v1/orgs/{org}/entries", key=key)
    for refused in (behind.append(org, key), reading):
        assert refused.status == 503, refused.body
        assert refused.json()["type"].endswith("/signing-key-missing")
        assert "k-new" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 0
    assert ahead.append(org, key).status == 201
    behind.holds(ADDED)
    until(lambda: behind.append(org, key).status == 201, "the key counts without a restart")
    kinds = {row["kind"] for row in blocking(fetch(database, "SELECT kind FROM security_events"))}
    assert "signing_key_missing" in kinds
    assert "row_not_authentic" not in kinds
    assert frozen(database) == 0


def test_a_machine_without_the_key_starts_and_waits_for_it(
    machines: tuple[Machine, Machine], database: Database
) -> None:
    ahead, behind = machines
    ahead.holds(ACTIVATED)
    org, key = ahead.server.create_org()
    behind.server.stop()
    again = Machine(start_server(database, behind.server.settings.data_dir), behind.keyring)
    try:
        refused = again.append(org, key)
        assert refused.status == 503, refused.body
        assert refused.json()["type"].endswith("/signing-key-missing")
        again.holds(ADDED)
        until(lambda: again.append(org, key).status == 201, "the server goes on without a restart")
    finally:
        again.server.stop()


def test_going_back_to_the_older_key_lets_a_machine_go_on_that_lacks_the_new_one(
    machines: tuple[Machine, Machine], database: Database
) -> None:
    ahead, behind = machines
    org, key = ahead.server.create_org()
    assert behind.append(org, key).status == 201
    ahead.holds(ACTIVATED)
    assert ahead.append(org, key).status == 201
    assert behind.append(org, key).status == 503
    ahead.holds(ADDED)
    assert behind.append(org, key).status == 503, "nothing vouches for the newest entry yet"
    assert ahead.append(org, key).status == 201
    assert behind.append(org, key).status == 201
    assert frozen(database) == 0


def test_added_everywhere_before_it_is_activated_no_machine_meets_an_unknown_key(
    machines: tuple[Machine, Machine], database: Database
) -> None:
    org, key = machines[0].server.create_org()
    for step in (ADDED, ACTIVATED):
        for changed in machines:
            changed.holds(step)
            for each in machines:
                assert each.append(org, key).status == 201
    assert frozen(database) == 0
