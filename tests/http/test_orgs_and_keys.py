"""The life of orgs and API keys, on one server and on two."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import structlog

from server.process import logs
from tests.plugins.server import StartServer
from tests.support.raw_http import Line, head
from tests.support.restored_logging import restored_logging
from tests.support.serving import Server, server_settings


def whoami(server: Server, key: str) -> int:
    return server.request("GET", "/v1/whoami", key=key).status


def test_an_org_is_made_shown_renamed_and_listed(shared_server: Server) -> None:
    server, key = shared_server, shared_server.platform_key
    made = server.request("POST", "/v1/orgs", {"slug": "a-shop", "privacy": "plain"}, key=key)
    assert made.status == 201
    shown = made.json()
    assert (shown["slug"], shown["name"], shown["privacy"]) == ("a-shop", "a-shop", "plain")
    assert shown["frozen"] is None
    assert shown["head"] == {"seq": -1, "entry_hash": None, "anchored_at": None}
    assert server.request("GET", "/v1/orgs/a-shop", key=key).json() == shown
    renamed = server.request("PATCH", "/v1/orgs/a-shop", {"name": "Käse & Co"}, key=key)
    assert renamed.json() == {**shown, "name": "Käse & Co"}
    again = server.request("POST", "/v1/orgs", {"slug": "a-shop"}, key=key)
    assert (again.status, again.json()["type"].rpartition("/")[2]) == (409, "conflict")


def test_orgs_are_listed_page_by_page(shared_server: Server) -> None:
    server, key = shared_server, shared_server.platform_key
    made = {server.create_org(slug=f"page-{number}")[0] for number in range(7)}
    listed: list[str] = []
    cursor = ""
    while True:
        page = server.request("GET", f"/v1/orgs?limit=3&cursor={cursor}", key=key).json()
        assert len(page["orgs"]) <= 3
        listed += [org["slug"] for org in page["orgs"]]
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
    assert made <= set(listed)
    assert listed == sorted(set(listed))


@pytest.mark.parametrize("body", [
    b"", b" ", b"{", b"null", b"[]", b'"x"', b"{}", b"\xef\xbb\xbf{}", b"\xff", b'{"slug":"\xff"}',
    b'{"slug":1}', b'{"slug":""}', b'{"slug":"-a"}', b'{"slug":"a-"}', b'{"slug":"A"}',
    b'{"slug":"a b"}', b'{"slug":"line\\n","name":"x"}', b'{"slug":"a\\u0000"}',
    b'{"slug":"\\ud800"}', b'{"slug":"okay","name":""}', b'{"slug":"okay","name":"a\\u0000b"}',
    b'{"slug":"okay","privacy":"open"}', b'{"slug":"okay","more":1}',
    b'{"slug":"' + b"a" * 64 + b'"}', b'{"slug":"okay","name":"' + b"x" * 201 + b'"}',
    b'{"slug":' + b"[" * 20_000, b'{"slug":"okay","name":' + b'{"a":' * 5_000,
])  # fmt: skip
def test_an_invalid_org_is_refused(shared_server: Server, body: bytes) -> None:
    answer = shared_server.request("POST", "/v1/orgs", body, key=shared_server.platform_key)
    assert answer.status == 400, answer.body
    problem = answer.json()
    assert problem["type"].endswith("/invalid-request")
    assert problem["detail"]


def test_administrative_bodies_are_small_and_read_last(shared_server: Server) -> None:
    big = b'{"slug":"' + b"a" * 70_000 + b'"}'
    answer = shared_server.request("POST", "/v1/orgs", big, key=shared_server.platform_key)
    assert (answer.status, answer.json()["type"].rpartition("/")[2]) == (413, "payload-too-large")
    with Line(shared_server) as line:  # no key: answered before the body has arrived
        line.send(head("POST", "/v1/orgs", content_length="100", connection="close"))
        assert line.answer().status == 401


def test_a_key_is_shown_once_and_listed_without_its_secret(shared_server: Server) -> None:
    server = shared_server
    org, admin = server.create_org()
    made = server.request(
        "POST", f"/v1/orgs/{org}/keys", {"name": "billing", "role": "member"}, key=admin
    )
    new = made.json()
    assert made.status == 201
    prefix, kind, key_id, secret = new["key"].split("_")
    assert (prefix, kind, key_id) == ("quire", "live", new["id"])
    listing = server.request("GET", f"/v1/orgs/{org}/keys", key=admin)
    assert secret not in listing.body.decode()
    rows = {row["id"]: row for row in listing.json()["keys"]}
    assert rows[new["id"]] == {
        "id": new["id"],
        "name": "billing",
        "role": "member",
        "created_at": new["created_at"],
        "created_by": f"key:{admin.split('_')[2]}",
        "expires_at": new["expires_at"],
        "allowed_cidrs": [],
        "last_used_at": None,
        "rotated_to": None,
        "revoked_at": None,
        "rotation_required": False,
        "authentic": True,
    }
    me = server.request("GET", "/v1/whoami", key=new["key"]).json()
    ends = new["expires_at"]
    assert me == {"key_id": new["id"], "role": "member", "org": org, "expires_at": ends}


@pytest.mark.parametrize("body", [
    {"name": "x", "role": "platform"}, {"name": "x", "role": "owner"}, {"name": "x"},
    {"role": "admin"}, {"name": "x", "role": "admin", "org": "other"}, {"name": 5, "role": "admin"},
])  # fmt: skip
def test_an_invalid_key_request_is_refused(shared_server: Server, body: Any) -> None:
    server = shared_server
    answer = server.request("POST", f"/v1/orgs/{server.org}/keys", body, key=server.admin_key)
    assert answer.status == 400, answer.body


def test_a_revoked_key_is_refused_at_once_by_its_server(shared_server: Server) -> None:
    server = shared_server
    org, admin = server.create_org()
    key = server.create_key(org, "member")
    path = f"/v1/orgs/{org}/keys/{key.split('_')[2]}"
    assert whoami(server, key) == 200
    assert server.request("DELETE", path, key=admin).status == 204
    assert whoami(server, key) == 401
    assert server.request("DELETE", path, key=admin).status == 404
    listed = server.request("GET", f"/v1/orgs/{org}/keys", key=admin).json()["keys"]
    assert [row["revoked_at"] is None for row in listed] == [True, False]


def test_a_revoked_key_is_refused_by_the_other_server(start_servers: StartServer) -> None:
    here, there = start_servers(), start_servers()
    org, admin = here.create_org()
    key = here.create_key(org, "member")
    assert whoami(here, key) == whoami(there, key) == 200
    assert here.request("DELETE", f"/v1/orgs/{org}/keys/{key.split('_')[2]}", key=admin).status
    deadline = time.monotonic() + 5  # far below the half minute for which keys are cached
    while whoami(there, key) == 200:
        assert time.monotonic() < deadline, "the revocation did not arrive"
        time.sleep(0.01)


def test_a_key_read_before_its_revocation_is_not_cached_after_it(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = shared_server
    key = server.create_key(server.org, "member")
    assert server.services is not None
    authenticator = server.services.authenticator
    check = authenticator._check

    def revoked_meanwhile(*found: Any) -> Any:
        authenticator.forget(key.split("_")[2])
        return check(*found)

    with monkeypatch.context() as patch:
        patch.setattr(authenticator, "_check", revoked_meanwhile)
        assert whoami(server, key) == 200  # the key was valid when it was cached
    assert authenticator.cached(key) is None


def test_texts_that_are_not_keys_take_no_memory(shared_server: Server) -> None:
    assert shared_server.services is not None
    cache = shared_server.services.authenticator._cache
    before = len(cache)
    for number in range(50):
        assert whoami(shared_server, f"no key {number} " + "x" * 5_000) == 401
    assert len(cache) == before


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_logged_fault_shows_no_secret(
    form: str, session_dir: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with restored_logging():
        logs.configure(server_settings(session_dir, log_format=form))
        _fail("quire_live_secret")
    written = capfd.readouterr().err
    assert "ZeroDivisionError" in written
    assert "quire_live_secret" not in written
    if form == "json":
        assert json.loads(written)["event"] == "it failed"


def _fail(secret: str) -> None:
    try:
        _ = len(secret) / 0
    except ZeroDivisionError as error:
        structlog.get_logger("quire").error("it failed", exc_info=error)
