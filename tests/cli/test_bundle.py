"""`quire bundle create`, as a process against a running server."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.commands import call, invoke
from tests.support.serving import Server
from tests.support.signed_trees import SignedTrees

COUNT = 12


class Desk(NamedTuple):
    """An org with a signed and anchored trail, and `quire` with its admin key."""

    org: str
    settings: dict[str, str]
    records: list[str]
    place: Path

    def create(self, *options: str, stdin: bytes = b"", expect: int = 0) -> Any:
        command = ("bundle", "create", self.org, *options)
        done = call(*command, settings=self.settings, stdin=stdin, cwd=self.place)
        assert done.returncode == expect, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return done

    def made(self, *options: str, stdin: bytes = b"") -> zipfile.ZipFile:
        path = self.place / "evidence.zip"
        path.unlink(missing_ok=True)
        self.create(*options, "--output", "evidence.zip", stdin=stdin)
        return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def signed_org(shared_server: Server) -> tuple[str, str, list[str]]:
    org, key = shared_server.create_org()
    events = [{"subject": f"s{n % 3}", "actor": "clerk", "n": n} for n in range(COUNT)]
    answer = shared_server.request("POST", f"/v1/orgs/{org}/entries", events, key=key)
    trees = SignedTrees(shared_server)
    trees.sign()
    trees.anchor()
    return org, key, [entry["record_id"] for entry in answer.json()["entries"]]


@pytest.fixture
def desk(shared_server: Server, signed_org: tuple[str, str, list[str]], tmp_path: Path) -> Desk:
    org, key, records = signed_org
    return Desk(org, {"QUIRE_URL": shared_server.url, "QUIRE_API_KEY": key}, records, tmp_path)


def seqs(bundle: zipfile.ZipFile) -> list[int]:
    return [json.loads(line)["seq"] for line in bundle.read("leaves/000000.ndjson").splitlines()]


def states(bundle: zipfile.ZipFile) -> list[str]:
    lines = bundle.read("payloads/000000.ndjson").splitlines()
    return [json.loads(line)["state"] for line in lines]


def test_entries_are_chosen_in_every_way(desk: Desk) -> None:
    assert seqs(desk.made("--from", "3", "--to", "5")) == [3, 4, 5]
    assert seqs(desk.made("--to", "1")) == [0, 1]
    assert seqs(desk.made("--from", "10"))[:2] == [10, 11]
    assert seqs(desk.made("--record", desk.records[4], "--record", desk.records[2])) == [2, 4]
    listed = "\n".join(desk.records[5:8]).encode()
    assert seqs(desk.made("--records", "-", stdin=listed)) == [5, 6, 7]
    assert seqs(desk.made("--subject", "s1", "--since", "2026-01-01")) == [1, 4, 7, 10]


def test_parts_are_left_out_and_payloads_opened(desk: Desk) -> None:
    bare = desk.made("--to", "1", "--no-payloads", "--no-proofs", "--no-anchor")
    assert {name.partition("/")[0] for name in bare.namelist() if "/" in name} == {
        "checkpoints",
        "leaves",
    }
    assert states(desk.made("--to", "2", "--disclose", desk.records[1])) == [
        "sealed",
        "disclosed",
        "sealed",
    ]
    named = desk.made("--to", "2", "--disclose-all", "--disclose-field", "subject")
    assert sorted(json.loads(named.read("names.json")).values()) == ["s0", "s1", "s2"]
    assert set(states(named)) == {"sealed"}


def test_the_file_is_named_and_an_existing_file_is_kept(desk: Desk) -> None:
    done = desk.create("--to", "0")
    (path,) = desk.place.iterdir()
    assert done.stdout.decode().strip() == path.name
    assert path.name.startswith(f"quire-{desk.org}-")
    assert f"quire-verify {path.name}" in done.stderr.decode()
    before = path.read_bytes()
    said = desk.create("--to", "1", "--output", path.name, expect=2).stderr.decode()
    assert "exists" in said
    assert path.read_bytes() == before
    report = json.loads(desk.create("--to", "1", "--output", "b.zip", "--json").stdout)
    assert report == {"file": "b.zip", "bytes": (desk.place / "b.zip").stat().st_size}


def test_a_failed_bundle_leaves_no_file(desk: Desk) -> None:
    said = desk.create("--from", "99999", "--output", "evidence.zip", expect=2).stderr.decode()
    assert "the trail has no entry 99999" in said
    assert not list(desk.place.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--from", "1", "--record", "rec_1"],
        ["--subject", "x", "--to", "4"],
        ["--to", "4", "--disclose", "rec_1", "--disclose-all"],
        ["--to", "4", "--disclose-field", "payload"],
        ["--to", "4", "--disclose-all", "--disclose-field", "key"],
        ["--since", "yesterday"],
    ],
)
def test_contradictory_options_are_refused_without_the_server(options: list[str]) -> None:
    settings = {"QUIRE_URL": "http://127.0.0.1:1", "QUIRE_API_KEY": "unused"}
    result = invoke("bundle", "create", "demo", *options, settings=settings)
    assert result.exit_code == 2
    assert "Usage" in result.stderr
