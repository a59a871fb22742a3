"""The published cases of QWED's roles and keys, with the four departures that docs/access.md explains."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from server.access.principal import Unauthorized
from server.access.rights import May, Right, role_of
from tests.support.cases import read_cases
from tests.support.clusters import blocking
from tests.support.serving import Server

CASES: dict[str, Any] = {case["id"]: case for case in read_cases("access_cases.jsonl")}
ROLES = [case for case in CASES.values() if case["op"] == "check_permission"]
LATER = {"rbac-0445": "reports", "rbac-0447": "threats", "auth-0458": "logins"}
"""Cases of routes that do not exist yet."""
RIGHTS: dict[str, Right] = {
    "history:read": May.READ,
    "keys:read": May.LIST_KEYS,
    "keys:write": May.ADMINISTER,
    "verify:execute": May.APPEND,
    "anything": May.ADMINISTER,
}
"""What QWED's permissions are here."""
TRIED = {
    "rbac-0442", "rbac-0448", "auth-0450", "auth-0451", "auth-0452", "auth-0453", "auth-0454",
    "auth-0455", "auth-0459",
}  # fmt: skip


def test_every_case_is_tried_here_or_comes_with_a_later_route() -> None:
    assert CASES.keys() <= {case["id"] for case in ROLES} | TRIED | LATER.keys()


@pytest.mark.parametrize("case", ROLES, ids=lambda case: case["id"])
def test_a_role_has_its_permissions(case: Any) -> None:
    role, right = role_of(case["input"]["role"]), RIGHTS[case["input"]["permission"]]
    assert (role is not None and role in right.roles) == case["expected"]


@pytest.fixture
def org(shared_server: Server) -> tuple[str, str]:
    return shared_server.create_org("plain")


def status(server: Server, key: str | None) -> int:
    return server.request("GET", "/v1/whoami", key=key).status


def test_an_admin_verifies_an_entry(shared_server: Server, org: Any) -> None:
    path = f"/v1/orgs/{org[0]}/entries"
    record = shared_server.request("POST", path, {"n": 1}, key=org[1]).json()["record_id"]
    answer = shared_server.request("GET", f"/admin/compliance/verify/{record}", key=org[1])
    assert answer.status == CASES["rbac-0442"]["expected"]["http"]


def test_an_admin_rotates_a_key(shared_server: Server, org: Any) -> None:
    """auth-0455: the old key ends after an overlap, and the new one keeps the name."""
    old = shared_server.create_key(org[0], "member").split("_")[2]
    answer = shared_server.request("POST", f"/admin/keys/rotate?key_id={old}", key=org[1])
    assert answer.status == CASES["rbac-0448"]["expected"]["http"]
    assert CASES["auth-0455"]["expected"]["old.revoked_at"] == "set"
    listed = shared_server.request("GET", f"/v1/orgs/{org[0]}/keys", key=org[1]).json()["keys"]
    keys = {key["id"]: key for key in listed}
    new = keys[answer.json()["new_key_id"]]
    assert keys[old]["rotated_to"] == new["id"]
    assert keys[old]["revoked_at"] is None
    assert new["name"] == keys[old]["name"]


def test_keys_without_validity(shared_server: Server, org: Any) -> None:
    """auth-0452: without a key, 401."""
    expired, revoked = (shared_server.create_key(org[0], "viewer") for _ in range(2))
    path = f"/v1/orgs/{org[0]}/keys"
    ending = f"{path}/{expired.split('_')[2]}/rotate"
    ended = shared_server.request("POST", ending, {"overlap_hours": 0}, key=expired)
    assert ended.status == 201
    gone = shared_server.request("DELETE", f"{path}/{revoked.split('_')[2]}", key=org[1])
    assert gone.status == 204
    assert status(shared_server, expired) == CASES["auth-0450"]["expected"]["http"]
    assert status(shared_server, revoked) == CASES["auth-0451"]["expected"]["http"]
    assert CASES["auth-0452"]["expected"]["http"] == 422
    assert status(shared_server, None) == 401


def test_the_form_and_the_lifetime_of_a_key(shared_server: Server, org: Any) -> None:
    """auth-0453: keys have a prefix of their own."""
    body = {"name": "k", "role": "viewer"}
    made = shared_server.request("POST", f"/v1/orgs/{org[0]}/keys", body, key=org[1]).json()
    assert re.match(CASES["auth-0453"]["expected"]["regex"], made["key"]) is None
    assert re.fullmatch(r"quire_live_[0-9a-f]{16}_[0-9a-f]{48}", made["key"])
    began, ends = (datetime.fromisoformat(made[name]) for name in ("created_at", "expires_at"))
    assert ends - began == timedelta(days=CASES["auth-0454"]["expected"]["days"])


def test_a_junk_key_costs_neither_a_hash_nor_a_query(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CASES["auth-0459"]["op"] == "junk_key_cost"
    services = shared_server.services
    assert services is not None
    authenticator = services.authenticator

    def costly(*_: object) -> Any:
        raise AssertionError("a hash or a query")

    monkeypatch.setattr(authenticator, "_hash", costly)
    monkeypatch.setattr(authenticator.keys, "found", costly)
    for junk in ("", "quire_live_", "qwed_live_" + "x" * 43, "x" * 10_000, "quire_live_\x00"):
        with pytest.raises(Unauthorized):
            blocking(authenticator.principal(junk))
