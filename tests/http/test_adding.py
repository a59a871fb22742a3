"""Adding raw bytes to one org's log, as load testers of tlog-tiles do."""

from __future__ import annotations

import base64

import pytest

from ledger.log_keys import open_org_checkpoint
from ledger.merkle import EMPTY_ROOT
from tests.plugins.server import StartServer
from tests.support.serving import Server
from tests.support.signed_trees import KEYS, SignedTrees

LOAD = "load-test"
PLAIN = {"content-type": "application/octet-stream"}


@pytest.fixture
def adding_server(start_servers: StartServer) -> Server:
    server = start_servers(add_org=LOAD, max_payload_bytes=1_000)
    server.org, server.admin_key = server.create_org("plain", LOAD)
    path = f"/v1/orgs/{LOAD}"
    server.request("PATCH", path, {"log_public": True}, key=server.admin_key)
    return server


def test_bytes_are_added_and_their_index_is_answered(adding_server: Server) -> None:
    prefix = f"/v1/orgs/{LOAD}/log"
    bodies = [b"", b"x", b"\x00\xff" * 100, b'{"a": 1}', "ä".encode()]
    for index, body in enumerate(bodies):
        answer = adding_server.request("POST", f"{prefix}/add", body, headers=PLAIN)
        assert (answer.status, answer.body) == (200, b"%d" % index)
        assert answer.headers["content-type"].startswith("text/plain")
    listed = adding_server.request(
        "GET", f"/v1/orgs/{LOAD}/entries?order=asc", key=adding_server.admin_key
    )
    for body, entry in zip(bodies, listed.json()["entries"], strict=True):
        assert entry["event_type"] == "quire.added"
        assert base64.b64decode(entry["payload"]["data"]) == body
    SignedTrees(adding_server).sign()
    checkpoint = adding_server.request("GET", f"{prefix}/checkpoint").body
    assert open_org_checkpoint(checkpoint, LOAD, KEYS.public()).checkpoint.size == len(bodies)
    assert adding_server.request("GET", f"{prefix}/tile/entries/000.p/{len(bodies)}").status == 200


def test_a_new_log_begins_with_a_checkpoint_of_size_0(adding_server: Server) -> None:
    """A load tester starts from it, before the first append."""
    prefix = f"/v1/orgs/{LOAD}/log"
    assert adding_server.request("GET", f"{prefix}/checkpoint").status == 404
    trees = SignedTrees(adding_server)
    trees.sign()
    trees.anchor()  # of the trail `system`
    empty = adding_server.request("GET", f"{prefix}/checkpoint")
    opened = open_org_checkpoint(empty.body, LOAD, KEYS.public()).checkpoint
    assert (empty.status, opened.size, opened.root) == (200, 0, EMPTY_ROOT)
    assert trees.sign() == 0
    assert trees.anchor() is None
    assert adding_server.request("GET", f"{prefix}/checkpoint").body == empty.body
    path = f"/v1/orgs/{LOAD}"
    key = adding_server.admin_key
    shown = adding_server.request("GET", f"{path}/checkpoints/0", key=key).json()
    assert (shown["size"], shown["note"].encode(), shown["anchor_index"]) == (0, empty.body, None)
    proof = adding_server.request("GET", f"{path}/consistency?from=0", key=key).json()
    assert (proof["from"], proof["to"], proof["hashes"]) == (0, 0, [])
    assert adding_server.request("POST", f"{prefix}/add", b"x", headers=PLAIN).body == b"0"
    assert trees.sign() == 1
    grown = adding_server.request("GET", f"{prefix}/checkpoint").body
    assert open_org_checkpoint(grown, LOAD, KEYS.public()).checkpoint.size == 1
    listed = adding_server.request("GET", f"{path}/checkpoints", key=key).json()
    assert [one["size"] for one in listed["checkpoints"]] == [1, 0]
    assert listed["next_cursor"] is None


def test_too_much_is_refused(adding_server: Server) -> None:
    path = f"/v1/orgs/{LOAD}/log/add"
    for size in (1_000, 70_000):
        answer = adding_server.request("POST", path, b"x" * size, headers=PLAIN)
        assert (answer.status, answer.json()["type"].rpartition("/")[2]) == (
            413,
            "payload-too-large",
        )


def test_a_private_log_takes_them_with_a_key_that_may_append(adding_server: Server) -> None:
    path = f"/v1/orgs/{LOAD}"
    adding_server.request("PATCH", path, {"log_public": False}, key=adding_server.admin_key)
    viewer = adding_server.create_key(LOAD, "viewer")
    for key, status in ((None, 401), (viewer, 403), (adding_server.admin_key, 200)):
        assert adding_server.request("POST", f"{path}/log/add", b"x", key=key).status == status


def test_nothing_is_added_to_other_logs(adding_server: Server) -> None:
    org, key = adding_server.create_org()
    body = {"log_public": True}
    adding_server.request("PATCH", f"/v1/orgs/{org}", body, key=key)
    for caller in (None, key):
        assert (
            adding_server.request("POST", f"/v1/orgs/{org}/log/add", b"x", key=caller).status == 404
        )
    assert adding_server.request("POST", "/v1/orgs/no-such-org/log/add", b"x").status == 401
