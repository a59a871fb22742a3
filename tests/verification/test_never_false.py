"""No damaged and no unread trail ever yields true, valid, verified or exit code 0.

Random damage of every kind is done to a signed trail, sealed and plain, in a real database;
then a real server verifies the whole trail, a range and single entries, over HTTP and by
the command. QUIRE_DAMAGES is the number of damages tried.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from ledger.log_keys import dump_log_keys
from tests.cli.commands import invoke
from tests.support.appending import superuser
from tests.support.clusters import Cluster, blocking
from tests.support.damage import COUNT, DAMAGES, KEPT, SIZES, Damage
from tests.support.serving import Server, start_server
from tests.support.signed_trees import KEYS, SignedTrees
from tests.support.tampering import tamper

TRIES = int(os.environ.get("QUIRE_DAMAGES", "5"))
SEED = int(os.environ.get("QUIRE_DAMAGE_SEED", "1"))
AT_ONCE = 5
"""The number of damages that one test tries."""
ALL_TRIED: Counter[str] = Counter()
CODES = {"verified": 0, "refuted": 1, "incomplete": 3}


class ServedTrail(NamedTuple):
    """A signed and anchored trail of a running server, with a copy of its undamaged rows."""

    server: Server
    org: str
    key: str
    records: list[str]

    def run(self, *statements: str) -> None:
        """Run statements as a superuser for whom no trigger fires."""

        async def execute() -> None:
            async with superuser(self.server.database) as connection:
                for statement in statements:
                    await connection.execute(statement)

        blocking(execute())

    def damage(self, damage: Damage) -> None:
        tamper(self.server.database, self.org, damage.tampering)

    def restore(self) -> None:
        """Undo all damage, and thaw the org."""
        copies = [f"INSERT INTO {table} SELECT * FROM kept_{table}" for table in KEPT]
        self.run(f"TRUNCATE {', '.join(KEPT)}", *copies)

    def verify(self, first: int | None = None, last: int | None = None) -> dict[str, Any]:
        """Verify by the command, and check its exit code; returns the result."""
        ends = [] if first is None else ["--from", str(first)]
        ends += [] if last is None else ["--to", str(last)]
        settings = {"QUIRE_URL": self.server.url, "QUIRE_API_KEY": self.key}
        ended = invoke("verify", self.org, "--json", *ends, settings=settings)
        if ended.exit_code == 2:
            return {"verdict": "none", "valid": False, "checks": {}, "said": ended.output}
        result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])  # after log lines
        assert CODES[result["verdict"]] == ended.exit_code
        assert result["valid"] is (result["verdict"] == "verified")
        return result

    def verify_range(self, first: int, last: int) -> dict[str, Any]:
        """Verify a range over HTTP; returns the result. A refusal gives no verdict."""
        path = f"/v1/orgs/{self.org}/verifications?wait=60"
        body = {"from_seq": first, "to_seq": last}
        answer = self.server.request("POST", path, body, key=self.key)
        if answer.status == 400:
            return {"verdict": "refused", "valid": False, "checks": {}}
        job = answer.json()
        assert job["state"] == "done", job
        result: dict[str, Any] = job["result"]
        assert (job["verdict"], job["valid"]) == (result["verdict"], result["valid"])
        assert result["valid"] is (result["verdict"] == "verified")
        return result

    def verify_entry(self, seq: int) -> Any:
        path = f"/admin/compliance/verify/{self.records[seq]}"
        answer = self.server.request("GET", path, key=self.key)
        assert answer.status == 200, answer.body
        result = answer.json()
        assert result["valid"] is (result["verdict"] == "verified")
        return result


@pytest.fixture(scope="module")
def trails(postgres_cluster: Cluster, session_dir: Any) -> Iterator[list[ServedTrail]]:
    """A sealed and a plain trail, both signed and anchored at three sizes."""
    database = postgres_cluster.migrated()
    keys = dump_log_keys(KEYS).decode()
    server = start_server(database, session_dir / uuid4().hex[:8], log_signing_keys=keys)
    trees = SignedTrees(server)
    made = []
    for privacy in ("sealed", "plain"):
        org, key = server.create_org(privacy)
        made.append(ServedTrail(server, org, key, []))
    for size in SIZES:
        for trail in made:
            events = [
                {"event_type": "event", "actor": f"ada{n % 7}", "subject": "bob", "n": n}
                for n in range(len(trail.records), size)
            ]
            path = f"/v1/orgs/{trail.org}/entries"
            answer = server.request("POST", path, events, key=trail.key)
            assert answer.status == 201, answer.body
            trail.records.extend(entry["record_id"] for entry in answer.json()["entries"])
        assert trees.sign() >= len(made)
        assert trees.anchor()
    made[0].run(*(f"CREATE TABLE kept_{table} AS TABLE {table}" for table in KEPT))
    yield made
    print(f"\ndamages by verdict: {dict(sorted(ALL_TRIED.items()))}")  # noqa: T201 - seen with -s
    server.stop()
    postgres_cluster.drop(database)


def test_an_undamaged_trail_is_verified(trails: list[ServedTrail]) -> None:
    for trail in trails:
        for ends in ((), (0, 599), (0, 100), (255, 257), (300, 599), (599, 599), (450,)):
            result = trail.verify(*ends)
            unasked = ("external_time", "witnesses", "search_index", "rows", "security_events")
            asked = {name for name in result["checks"] if name not in unasked}
            assert (ends, result["verdict"]) == (ends, "verified"), result
            assert {name for name in asked if result["checks"][name] is not True} == set()
            assert result["unsigned_entries"] == 0
        assert trail.verify_entry(0)["verdict"] == trail.verify_entry(599)["verdict"] == "verified"


@pytest.mark.parametrize("ends", [(600, 700), (599, 600), (0, 600), (600,), (10**6,), (10, 10**6)])
def test_a_range_beyond_the_trail_is_refused(
    trails: list[ServedTrail], ends: tuple[int, ...]
) -> None:
    found = trails[0].verify(*ends)
    assert found["verdict"] == "none"
    assert "the trail of" in found["said"]


@pytest.mark.parametrize("ring", range(-(-TRIES // AT_ONCE)))
def test_no_damage_is_ever_called_verified(
    trails: list[ServedTrail], ring: int, record_property: Callable[[str, object], None]
) -> None:
    random = Random(f"{SEED}/{ring}")
    tried: Counter[str] = Counter()
    for number in range(ring * AT_ONCE, min(ring * AT_ONCE + AT_ONCE, TRIES)):
        damage, trail = DAMAGES[number % len(DAMAGES)](random), random.choice(trails)
        trail.damage(damage)
        try_verdicts(random, damage, trail, tried)
        trail.restore()
    record_property("verdicts", dict(tried))
    ALL_TRIED.update(tried)


def try_verdicts(random: Random, damage: Damage, trail: ServedTrail, tried: Counter[str]) -> None:
    """Verify a damaged trail, a range of it, and an entry, and count the verdicts."""
    whole = trail.verify()
    tried[f"whole trail: {whole['verdict']}"] += 1
    not_called_true(damage, whole)
    first, last = a_range(random, damage)
    part = trail.verify_range(first, last)
    met = damage.anywhere or any(first <= seq <= last for seq in damage.seqs)
    tried[f"range {'over' if met else 'beside'} the damage: {part['verdict']}"] += 1
    if met:
        not_called_true(damage, part, (first, last))
    if damage.seqs and damage.of_entries:
        one = trail.verify_entry(random.choice(sorted(damage.seqs)))
        tried[f"single entry: {one['verdict']}"] += 1
        assert one["verdict"] != "verified", (damage, one)


def a_range(random: Random, damage: Damage) -> tuple[int, int]:
    """A random range, mostly one that contains the damage, wholly or in part."""
    a, b = random.randrange(COUNT), random.randrange(COUNT)
    if damage.seqs and random.random() < 0.7:
        a = random.choice(sorted(damage.seqs))
    return min(a, b), max(a, b)


def not_called_true(
    damage: Damage, result: dict[str, Any], ends: tuple[int, int] | None = None
) -> None:
    assert result["verdict"] != "verified", (damage, ends, result)
    checks = damage.checks
    if ends and damage.seqs and not any(ends[0] <= seq <= ends[1] for seq in damage.seqs):
        checks = checks & {"head"} or checks  # a range beside the damage can show only this
    called = {name for name in checks if result["checks"].get(name) is True}
    assert not called, (damage, ends, result)
