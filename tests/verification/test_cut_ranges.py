"""Verification of ranges after the database's owner cut the end of a trail: never a good verdict.

The ranges come from real attempts: a range of which no entry is left, one that begins
with remaining entries, and one that never existed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from ledger.log_keys import dump_log_keys
from tests.cli.commands import invoke
from tests.support.blocks import cut, point_head_at
from tests.support.clusters import Cluster
from tests.support.serving import Server, start_server
from tests.support.signed_trees import KEYS, SignedTrees
from tests.support.tampering import change, steps, tamper

COUNT = 1_000


class Org(NamedTuple):
    """A plain org with signed entries, on a server of its own."""

    server: Server
    slug: str
    key: str
    records: list[str]

    def verify(self, *ends: str) -> Any:
        settings = {"QUIRE_URL": self.server.url, "QUIRE_API_KEY": self.key}
        return invoke("verify", self.slug, *ends, settings=settings)

    def request_verification(self, **ends: int) -> Any:
        path = f"/v1/orgs/{self.slug}/verifications?wait=60"
        return self.server.request("POST", path, ends, key=self.key)

    def cut(self, left: int) -> None:
        """Remove entries and set the head row back, as the owner of the database."""
        shortened = steps(change(point_head_at, left - 1), change(cut, left))
        tamper(self.server.database, self.slug, shortened)


@pytest.fixture(scope="module")
def signing_server(postgres_cluster: Cluster, session_dir: Path) -> Iterator[Server]:
    database = postgres_cluster.migrated()
    keys = dump_log_keys(KEYS).decode()
    running = start_server(database, session_dir / uuid4().hex[:8], log_signing_keys=keys)
    yield running
    running.stop()
    postgres_cluster.drop(database)


@pytest.fixture
def org(signing_server: Server) -> Org:
    return made(signing_server, COUNT)


def made(server: Server, count: int, *, sign: bool = True) -> Org:
    slug, key = server.create_org("plain")
    body = [{"event_type": "cut", "n": n} for n in range(count)]
    answer = server.request("POST", f"/v1/orgs/{slug}/entries", body, key=key)
    assert answer.status == 201, answer.body
    if sign:
        trees = SignedTrees(server)
        assert trees.sign()
        assert trees.anchor()
    return Org(server, slug, key, [entry["record_id"] for entry in answer.json()["entries"]])


@pytest.mark.parametrize(
    ("left", "first", "last", "missing"),
    [(900, 900, 999, 900), (900, 850, 999, 900), (900, 950, 999, 950), (900, 950, None, 950)],
)
def test_a_range_of_removed_entries_is_refuted_and_they_are_named(
    org: Org, left: int, first: int, last: int | None, missing: int
) -> None:
    org.cut(left)
    ends = ["--from", str(first)] + ([] if last is None else ["--to", str(last)])
    ended = org.verify(*ends)
    assert ended.exit_code == 1, ended.output
    assert f"{org.slug}: REFUTED" in ended.stdout
    asked = {"from_seq": first} | ({} if last is None else {"to_seq": last})
    job = org.request_verification(**asked).json()
    assert (job["verdict"], job["valid"]) == ("refuted", False)
    faults = {(fault["seq"], fault["kind"]) for fault in job["faults"]}
    assert (missing, "truncated") in faults
    assert job["result"]["checks"]["links"] is False
    assert job["result"]["checks"]["head"] is False
    assert not {name for name, answer in job["result"]["checks"].items() if answer is True} & {
        "hashes", "signatures", "payloads", "columns", "tree",
    }  # fmt: skip


def test_the_remaining_range_is_refuted_only_for_its_head(org: Org) -> None:
    org.cut(900)
    job = org.request_verification(from_seq=10, to_seq=800).json()
    assert {(fault["seq"], fault["kind"]) for fault in job["faults"]} == {(900, "below_signed")}
    assert job["result"]["checks"]["hashes"] is True


def test_t2_002(signing_server: Server) -> None:
    org = made(signing_server, 300)
    org.cut(250)
    for first in (250, 240):
        ended = org.verify("--from", str(first), "--to", "299")
        assert ended.exit_code == 1, ended.output
        assert "truncated" in ended.stdout
    healthy = made(signing_server, 17, sign=False)
    assert healthy.verify("--from", "999999").exit_code == 2


def test_a_wiped_org(signing_server: Server) -> None:
    org = made(signing_server, 40)
    org.cut(0)
    for ends in ((), ("--from", "0", "--to", "39"), ("--from", "7"), ("--to", "12")):
        ended = org.verify(*ends)
        assert (ends, ended.exit_code) == (ends, 1), ended.output
    assert org.verify("--to", "40").exit_code == 2


def test_an_entry_that_was_removed_is_refuted_by_its_id(signing_server: Server) -> None:
    org = made(signing_server, 40)
    org.cut(30)
    path = "/admin/compliance/verify/"
    found = org.server.request("GET", path + org.records[35], key=org.key).json()
    assert (found["verdict"], found["valid"]) == ("refuted", False)
    assert found["checks"]["chain_valid"] is False
    assert found["errors"][0].startswith("missing: entry 35 is missing")
    record_id = org.records[35]
    beyond = record_id[:-10] + f"{40:010x}"
    assert org.server.request("GET", path + beyond, key=org.key).status == 404
    moved = record_id[:12] + f"{7:014x}" + f"{5:010x}"
    assert org.server.request("GET", path + moved, key=org.key).status == 404


def test_ranges_that_never_existed_are_refused(signing_server: Server) -> None:
    org = made(signing_server, 5, sign=False)
    for ends in (
        {"from_seq": 1_000, "to_seq": 2_000},
        {"from_seq": 5},
        {"to_seq": 5},
        {"from_seq": 3, "to_seq": 5},
        {"from_seq": 4, "to_seq": 3},
    ):
        answer = org.request_verification(**ends)
        assert (answer.status, answer.json()["title"]) == (400, "Invalid request"), ends
        bundle = f"/v1/orgs/{org.slug}/bundles"
        assert org.server.request("POST", bundle, ends, key=org.key).status in (400, 404), ends
    assert org.request_verification(from_seq=4, to_seq=4).json()["verdict"] == "verified"
    empty, key = signing_server.create_org("plain")
    nothing = Org(signing_server, empty, key, [])
    assert nothing.request_verification(from_seq=0, to_seq=0).status == 400
    assert nothing.request_verification().json()["verdict"] == "incomplete"


def test_ranges_up_to_the_head_verify_during_appends(signing_server: Server) -> None:
    org = made(signing_server, 50, sign=False)
    path = f"/v1/orgs/{org.slug}/entries"
    ended = Event()

    def append() -> None:
        while not ended.is_set():
            answer = org.server.request("POST", path, [{"n": n} for n in range(30)], key=org.key)
            assert answer.status == 201, answer.body

    with ThreadPoolExecutor(1) as thread:
        appending = thread.submit(append)
        for _ in range(5):
            head = org.server.request("GET", f"/v1/orgs/{org.slug}/head", key=org.key).json()
            job = org.request_verification(from_seq=head["seq"] - 20, to_seq=head["seq"]).json()
            assert (job["verdict"], job["result"]["total_entries"]) == ("verified", 21), job
        ended.set()
        appending.result()
