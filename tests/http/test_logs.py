"""Logs served as C2SP tlog-tiles: which resources exist, and who can read them."""

from __future__ import annotations

import gzip
import secrets
from typing import NamedTuple

import pytest

from ledger import merkle
from ledger.entry import entry_hash
from ledger.log_keys import open_anchor, open_org_checkpoint
from ledger.storage.asking import STRANGERS, Work
from ledger.tiles import bundles_of, read_bundle, tiles_of, unpack_entries, verify_log
from ledger.turns import Turn
from tests.plugins.server import StartServer
from tests.support.serving import PeerAnswer, Server
from tests.support.signed_trees import KEYS, SignedTrees

LENGTH = 600
BINARY = "application/octet-stream"


class Log(NamedTuple):
    """An org with 600 entries, signed at sizes 10, 300 and 600, and anchored twice."""

    server: Server
    signed: SignedTrees
    org: str
    key: str

    def get(self, resource: str, key: str | None = None, **headers: str) -> PeerAnswer:
        path = f"/v1/orgs/{self.org}/log/{resource}"
        return self.server.request("GET", path, key=key or self.key, headers=headers)

    def anchors(self, resource: str) -> PeerAnswer:
        return self.server.request("GET", f"/v1/log/{resource}")

    def append(self, count: int) -> None:
        path = f"/v1/orgs/{self.org}/entries"
        events = [{"event_type": "log", "n": secrets.token_hex(4)} for _ in range(count)]
        assert self.server.request("POST", path, events, key=self.key).status == 201


@pytest.fixture(scope="module")
def log(shared_server: Server) -> Log:
    server = shared_server
    log = Log(server, SignedTrees(server), *server.create_org("plain"))
    for length in (10, 290, 300):
        log.append(length)
        log.signed.sign()
        log.signed.anchor()
    log.append(5)  # not signed yet
    return log


def test_the_checkpoint_is_the_newest_and_opens(log: Log) -> None:
    answer = log.get("checkpoint")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.headers["cache-control"] == "private, max-age=1"
    opened = open_org_checkpoint(answer.body, log.org, KEYS.public())
    assert opened.checkpoint.size == LENGTH


def test_every_tile_and_bundle_of_the_tree_is_served_and_leads_to_its_root(log: Log) -> None:
    for tile in tiles_of(LENGTH):
        answer = log.get(tile.path())
        assert (answer.status, answer.headers["content-type"]) == (200, BINARY)
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert len(answer.body) == 32 * tile.width
    hashes: list[bytes] = []
    for bundle in bundles_of(LENGTH):
        answer = log.get(bundle.path())
        assert (answer.status, answer.headers["content-type"]) == (200, BINARY)
        leaves = read_bundle(answer.body, bundle.width)
        stored = log.get(bundle.path().replace("entries", "0")).body
        assert b"".join(map(entry_hash, leaves)) == stored
        hashes += map(entry_hash, leaves)
    opened = open_org_checkpoint(log.get("checkpoint").body, log.org, KEYS.public())
    assert merkle.root(hashes) == opened.checkpoint.root


@pytest.mark.parametrize("size", [1, 9, 10, 256, 257, 300, 512, 599])
def test_partial_tiles_of_older_sizes_stay(log: Log, size: int) -> None:
    resources = [tile.path() for tile in tiles_of(size)]
    for resource in resources + [bundle.path() for bundle in bundles_of(size)]:
        assert log.get(resource).status == 200, resource


@pytest.mark.parametrize("resource", [
    "tile/0/002.p/89", "tile/0/002", "tile/0/003", "tile/0/003.p/1", "tile/1/000.p/3", "tile/1/000",
    "tile/2/000", "tile/2/000.p/1", "tile/63/000", "tile/64/000", "tile/entries/002.p/89",
    "tile/entries/002", "tile/entries/003.p/1", "tile/entries/x999/999", "tile/0/000.p/0",
    "tile/0/000.p/256", "tile/0/000.p/05", "tile/0/0", "tile/0/0000", "tile/0/x000/000", "tile/00/000",
    "tile/-1/000", "tile/0/000.p", "tile/0/000.p/", "tile/0/000/", "tile/data/000", "tile/entries",
    "tile/0", "tile/", "tile", "", "checkpoint.0", "tile/0/x999/x999/x999/x999/999",
    "tile/0/%00", "tile/0/..%2f..%2f000", "tile/entries/x1099/511/627/776",
])  # fmt: skip
def test_no_resource_beyond_the_tree_is_served(log: Log, resource: str) -> None:
    answer = log.get(resource)
    assert answer.status == 404
    assert answer.headers.get("cache-control") == "no-store"
    assert log.anchors(resource).status == 404


def test_a_bundle_is_compressed_for_clients_that_accept_it(log: Log) -> None:
    plain = log.get("tile/entries/000")
    for accepted in ("gzip", "deflate, GZIP;q=0.5"):
        packed = log.get("tile/entries/000", **{"accept-encoding": accepted})
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == plain.body
        assert len(packed.body) < len(plain.body)
    for refused in ("identity", "gzip;q=0", "gzip; q=0.000", ""):
        answer = log.get("tile/entries/000", **{"accept-encoding": refused})
        assert "content-encoding" not in answer.headers
        assert answer.headers["vary"] == "authorization, x-api-key, accept-encoding"
        assert answer.body == plain.body


def test_a_private_log_is_only_visible_to_keys_of_its_org(log: Log) -> None:
    server = log.server
    stranger = server.create_org()[1]
    viewer = server.create_key(log.org, "viewer")
    for resource in ("checkpoint", "tile/0/000", "tile/entries/000"):
        assert log.get(resource, viewer).status == 200
        assert log.get(resource, server.platform_key).status == 200
        answers = []
        for org in (log.org, "no-such-org"):
            path = f"/v1/orgs/{org}/log/{resource}"
            assert server.request("GET", path).status == 401
            assert server.request("GET", path, key="quire_live_x").status == 401
            answer = server.request("GET", path, key=stranger)
            answers.append(
                (answer.status, answer.body.replace(org.encode(), b""), [*answer.headers])
            )
        assert answers[0] == answers[1]
        assert answers[0][0] == 404


def test_a_log_without_checkpoints_has_no_resource(shared_server: Server) -> None:
    org, key = shared_server.create_org()
    for resource in ("checkpoint", "tile/0/000.p/1", "tile/entries/000.p/1"):
        answer = shared_server.request("GET", f"/v1/orgs/{org}/log/{resource}", key=key)
        assert answer.status == 404


def test_the_anchor_log_is_public_and_verifies(log: Log) -> None:
    answer = log.anchors("checkpoint")
    assert answer.headers["cache-control"] == "public, max-age=1"
    opened = open_anchor(answer.body, KEYS.public())
    size = opened.checkpoint.size
    assert size == 4  # one of the trail `system`
    bundle = log.anchors(f"tile/entries/000.p/{size}")
    assert bundle.headers["cache-control"] == "public, max-age=31536000, immutable"
    leaves = unpack_entries(bundle.body)
    assert [len(leaf) for leaf in leaves] == [32] * size
    assert merkle.root([merkle.leaf_hash(leaf) for leaf in leaves]) == opened.checkpoint.root
    assert log.anchors(f"tile/0/000.p/{size}").body == b"".join(map(merkle.leaf_hash, leaves))
    assert log.anchors(f"tile/0/000.p/{size + 1}").status == 404


def test_a_log_is_made_public_and_private_again(log: Log) -> None:
    server, org = log.server, log.org
    path = f"/v1/orgs/{org}"
    assert server.request("GET", path, key=log.key).json()["log_public"] is False
    made = server.request("PATCH", path, {"log_public": True}, key=log.key).json()
    assert made["log_public"] is True
    plain, cached = made["warnings"]
    assert "digest" in plain
    assert "caches" in cached
    for resource in ("checkpoint", "tile/0/000", "tile/entries/000"):
        read = server.request("GET", f"{path}/log/{resource}")
        assert (read.status, read.body) == (200, log.get(resource).body)
        # A cache must drop it soon after the org has made the log private.
        age = 1 if resource == "checkpoint" else 3600
        assert read.headers["cache-control"] == f"public, max-age={age}"
        assert "private" not in log.get(resource).headers["cache-control"]
        # A key of no use here does not hide a public log.
        assert log.get(resource, "quire_live_x").status == 200
    assert server.request("GET", f"{path}/head").status == 401
    renamed = server.request("PATCH", path, {"name": "Renamed"}, key=log.key).json()
    assert (renamed["name"], renamed["log_public"]) == ("Renamed", True)
    assert "warnings" not in renamed
    back = server.request("PATCH", path, {"log_public": False}, key=log.key).json()
    assert (back["log_public"], "warnings" in back) == (False, False)
    assert server.request("GET", f"{path}/log/checkpoint").status == 401
    again = log.get("tile/entries/000").headers["cache-control"]
    assert again == "private, max-age=31536000, immutable"


def test_making_a_sealing_org_public_warns_only_of_caches(shared_server: Server) -> None:
    org, key = shared_server.create_org()
    made = shared_server.request("PATCH", f"/v1/orgs/{org}", {"log_public": True}, key=key).json()
    (warning,) = made["warnings"]
    assert (made["log_public"], "caches" in warning) == (True, True)
    member = shared_server.create_key(org, "member")
    body = {"log_public": False}
    assert shared_server.request("PATCH", f"/v1/orgs/{org}", body, key=member).status == 403


def test_another_server_knows_at_once_which_logs_are_public(start_servers: StartServer) -> None:
    here, there = start_servers(), start_servers()
    org, key = here.create_org()
    path = f"/v1/orgs/{org}/log/checkpoint"

    def until(status: int) -> None:
        # Far below the half minute for which this setting is cached.
        for _ in range(500):
            if there.request("GET", path).status == status:
                return
        raise AssertionError(f"never answered {status}")

    until(401)
    here.request("PATCH", f"/v1/orgs/{org}", {"log_public": True}, key=key)
    until(404)  # public now, and without any checkpoint
    here.request("PATCH", f"/v1/orgs/{org}", {"log_public": False}, key=key)
    until(401)


def test_the_whole_log_is_verified_by_a_reader_of_static_logs(log: Log) -> None:
    opened = open_org_checkpoint(log.get("checkpoint").body, log.org, KEYS.public())

    def read(path: str) -> bytes | None:
        answer = log.get(path)
        return answer.body if answer.status == 200 else None

    report = verify_log(read, opened.checkpoint.size, opened.checkpoint.root)
    assert (report.entries, report.faults, report.complete) == (LENGTH, (), True)


def test_readers_without_a_key_do_not_count_as_the_org(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = shared_server
    org, key = server.create_org("plain")
    assert server.request("PATCH", f"/v1/orgs/{org}", {"log_public": True}, key=key).status == 200
    assert server.services is not None
    turns: list[Turn] = []
    take = server.services.database.turns.take

    async def noted(turn: Turn, timeout_s: float | None) -> None:
        turns.append(turn)
        await take(turn, timeout_s)

    monkeypatch.setattr(server.services.database.turns, "take", noted)
    path = f"/v1/orgs/{org}/log/checkpoint"
    assert server.request("GET", path).status == 404  # nothing is signed here
    assert {turn[:2] for turn in turns if turn.owner is not None} == {("127.0.0.1", Work.KEYLESS)}
    turns.clear()
    assert server.request("GET", path, key=key).status == 404
    owners = {turn.owner for turn in turns if turn.owner is not None}
    assert len(owners) == 1
    assert owners.isdisjoint({"127.0.0.1", STRANGERS})
