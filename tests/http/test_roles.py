"""Which callers each route of the application lets in, with every kind of caller."""

from __future__ import annotations

import secrets
from typing import NamedTuple

import pytest

from tests.support.rights import OTHERS_FORBIDDEN, ROUTES
from tests.support.routes import an_application, routes
from tests.support.serving import PeerAnswer, Server

OPEN = {("GET", path) for path in ("/livez", "/readyz", "/docs", "/openapi.json", "/verify")}
ANCHORS = {
    ("GET", f"/v1/log/{path}")
    for path in ("checkpoint", "tile/{tile}", "anchors", "anchors/{size}", "consistency", "keys")
}
OF_ORG = [route for route in ROUTES if "{org}" in route[1]]


class Callers(NamedTuple):
    """A server with an org, a key of each role, and the org's resources by path parameter."""

    server: Server
    keys: dict[str, str | None]
    things: dict[str, str]

    def call(self, method: str, path: str, key: str | None, **things: str) -> PeerAnswer:
        return self.server.request(
            method,
            path.format_map({**self.things, **things}) + ROUTES[method, path].query,
            ROUTES[method, path].body,
            key=key,
        )


@pytest.fixture(scope="module")
def callers(shared_server: Server) -> Callers:
    server, org, admin = shared_server, shared_server.org, shared_server.admin_key
    keys: dict[str, str | None] = {
        "none": None,
        "garbage": "quire_live_but_no_key",
        "unknown": f"quire_live_{secrets.token_hex(8)}_{secrets.token_hex(24)}",
        "admin": admin,
        "platform": server.platform_key,
        "other tenant": server.create_org()[1],
    }
    keys |= {role: server.create_key(org, role) for role in ("viewer", "auditor", "member")}
    revoked = server.create_key(org, "admin")
    server.request("DELETE", f"/v1/orgs/{org}/keys/{revoked.split('_')[2]}", key=admin)
    keys["revoked"] = revoked
    made = server.request("POST", f"/v1/orgs/{org}/entries", {"event_type": "first"}, key=admin)
    job = server.request("POST", f"/v1/orgs/{org}/verifications?wait=30", key=admin)
    assert job.status == 200, job.body
    things = {
        "org": org,
        "record": made.json()["record_id"],
        "job_id": job.json()["id"],
        "key_id": "0" * 16,
        "event_id": "9" * 10,
        "subject": "nobody",
        "size": "1",
        "tile": "0/000.p/1",
    }
    return Callers(server, keys, things)


def test_every_route_here_is_one_of_the_application() -> None:
    """Routes of new domains need no row here: ``test_every_route`` tries every route."""
    assert set(ROUTES) | OPEN | ANCHORS | {("GET", "/static/{name}")} <= routes(an_application())


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_each_role_has_its_rights(callers: Callers, method: str, path: str) -> None:
    expected = ROUTES[method, path].expected
    answered = {role: callers.call(method, path, callers.keys[role]).status for role in expected}
    assert answered == expected


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("caller", ["none", "garbage", "unknown", "revoked"])
def test_without_a_valid_key_nothing_is_returned(
    callers: Callers, caller: str, method: str, path: str
) -> None:
    answer = callers.call(method, path, callers.keys[caller])
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["type"].endswith("/unauthorized")


@pytest.mark.parametrize(("method", "path"), OF_ORG)
@pytest.mark.parametrize("role", ["viewer", "member", "admin"])
def test_another_s_org_looks_like_a_missing_one(
    callers: Callers, role: str, method: str, path: str
) -> None:
    key = (
        callers.keys["other tenant"]
        if role == "admin"
        else callers.server.create_key(_org_of(callers, "other tenant"), role)
    )
    theirs, nothing = callers.things["org"], "no-such-org"
    seen = callers.call(method, path, key)
    unknown = callers.call(method, path, key, org=nothing)
    assert seen.status == (403 if path in OTHERS_FORBIDDEN else 404)
    assert (seen.status, seen.body.replace(theirs.encode(), nothing.encode())) == (
        unknown.status,
        unknown.body,
    )
    assert seen.headers.keys() == unknown.headers.keys()


def _org_of(callers: Callers, caller: str) -> str:
    return str(callers.server.request("GET", "/v1/whoami", key=callers.keys[caller]).json()["org"])


@pytest.mark.parametrize("path", [
    "/v1/orgs/{org}/entries/{record}",
    "/v1/orgs/{org}/entries/{record}/payload",
    "/v1/orgs/{org}/entries/{record}/proof",
    "/v1/orgs/{org}/verifications/{job_id}",
    "/v1/orgs/{org}/verifications/{job_id}/events",
    "/admin/compliance/verify/{record}",
])  # fmt: skip
def test_resources_of_other_orgs_are_not_found_from_one_s_own_org(
    callers: Callers, path: str
) -> None:
    key = callers.keys["other tenant"]
    own = _org_of(callers, "other tenant")
    theirs = callers.call("GET", path, key, org=own)
    absent = callers.call(
        "GET", path, key, org=own, record="rec_" + "0" * 32, job_id=secrets.token_hex(8)
    )
    assert theirs.status == absent.status == 404
    assert theirs.body == absent.body


@pytest.mark.parametrize(("method", "path"), sorted(ANCHORS))
def test_the_log_of_anchors_needs_no_key(callers: Callers, method: str, path: str) -> None:
    for key in (None, "quire_live_but_no_key"):
        answer = callers.server.request(method, path.format_map(callers.things), key=key)
        assert answer.status in {200, 400, 404}, answer.body


@pytest.mark.parametrize(("method", "path"), sorted(OPEN))
def test_operators_and_machines_need_no_key(callers: Callers, method: str, path: str) -> None:
    assert callers.server.request(method, path).status == 200


def test_a_key_can_be_sent_in_two_ways(callers: Callers) -> None:
    key = callers.keys["viewer"]
    for headers in (
        {"authorization": f"Bearer {key}"},
        {"authorization": f"bearer  {key} "},
        {"x-api-key": f"{key}"},
        {"x-api-key": f"{key}", "authorization": "Basic eDp5"},
    ):
        assert callers.server.request("GET", "/v1/whoami", headers=headers).status == 200


@pytest.mark.parametrize("thing", ["%00", "%ff", "..%2f..", "%20", "a" * 3000, "%F0%9F%8D%83"])
@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if "{" in route[1]])
def test_odd_names_in_a_path_are_not_found(
    callers: Callers, method: str, path: str, thing: str
) -> None:
    for name in ("org", "record", "job_id", "key_id", "event_id", "subject", "size", "tile"):
        if f"{{{name}}}" in path:
            answer = callers.call(method, path, callers.keys["admin"], **{name: thing})
            # No person is looked up by a name that a proxy may have changed.
            refused = 400 if name == "subject" and "%" in thing else 404
            refused = 403 if path in OTHERS_FORBIDDEN and answer.status == 403 else refused
            assert answer.status in {refused, 405}, (name, answer.body)


def test_an_unknown_method_is_refused_with_the_allowed_ones(callers: Callers) -> None:
    answer = callers.server.request("PUT", "/v1/orgs/demo/entries", {})
    assert answer.status == 405
    assert {"GET", "POST"} <= set(answer.headers["allow"].replace(" ", "").split(","))
