"""API keys over HTTP: how they end, rotate, change, and from where they may be used."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.entry import rfc3339
from server.access.keys.changes import AskedKey
from tests.support.posting import problem_of
from tests.support.serving import PeerAnswer, Server
from tests.support.telling import own_payloads
from tests.support.waiting import until

DAY = timedelta(days=1)


@pytest.fixture
def org(shared_server: Server) -> tuple[str, str]:
    return shared_server.create_org("plain")


def key_id(key: str) -> str:
    return key.split("_")[2]


def ask(
    server: Server, org: tuple[str, str], rest: str = "", method: str = "GET", **options: Any
) -> PeerAnswer:
    """A request about the keys of an org, by default with its admin's key."""
    options.setdefault("key", org[1])
    return server.request(
        method, f"/v1/orgs/{org[0]}/keys{rest}", options.pop("body", None), **options
    )


def make(server: Server, org: tuple[str, str], **asked: Any) -> Any:
    by = asked.pop("by", org[1])
    body = {"name": "k", "role": "viewer", **asked}
    made = ask(server, org, method="POST", body=body, key=by)
    assert made.status == 201, made.body
    return made.json()


def refused(answer: PeerAnswer, status: int, problem: str, words: str = "") -> None:
    assert (answer.status, problem_of(answer)) == (status, problem), answer.body
    assert words in answer.json()["detail"]


def whoami(server: Server, key: str) -> PeerAnswer:
    return server.request("GET", "/v1/whoami", key=key)


def days_ahead(text: str | None) -> float:
    assert text is not None
    return (datetime.fromisoformat(text) - datetime.now(UTC)) / DAY


def run(server: Server, work: Any) -> Any:
    """Run a coroutine on the loop of the server."""
    assert server.services is not None
    return asyncio.run_coroutine_threadsafe(work, server.services._tasks[0].get_loop()).result(60)


def ending(server: Server, org: tuple[str, str], after: timedelta | None, **more: Any) -> str:
    """A key that ends sooner than the API makes one."""
    services = server.services
    assert services is not None
    new, org_id = services.authenticator.new_key(), run(server, _org_id(server, org[0]))
    asked = AskedKey(new.key_id, org_id, "short", "member", new.secret_hash, after, **more)
    run(server, services.key_changes.add(asked, org[0]))
    return new.token


async def _org_id(server: Server, slug: str) -> int:
    assert server.services is not None
    row = await server.services.database.fetchrow("SELECT id FROM orgs WHERE slug = $1", slug)
    assert row is not None
    return int(row[0])


# How keys end


def test_a_key_expires_after_90_days_or_as_asked(shared_server: Server, org: Any) -> None:
    usual, short = make(shared_server, org), make(shared_server, org, expires_in_days=1)
    at = rfc3339(datetime.now(UTC) + 30 * DAY)
    exact = make(shared_server, org, expires_at=at)
    assert days_ahead(usual["expires_at"]) == pytest.approx(90, abs=0.1)
    assert days_ahead(short["expires_at"]) == pytest.approx(1, abs=0.1)
    assert exact["expires_at"] == at
    assert whoami(shared_server, exact["key"]).json()["expires_at"] == at


@pytest.mark.parametrize(
    "asked",
    [
        {"expires_in_days": 0},
        {"expires_in_days": 366},
        {"expires_in_days": 1, "expires_at": "2027-01-01"},
        {"expires_in_days": None, "expires_at": None},
        {"expires_at": "2020-01-01"},
        {"expires_at": "soon"},
        {"expires_at": "9999-12-31"},
        {"expires_at": rfc3339(datetime.now(UTC) + DAY / 2)},
    ],
)
def test_an_end_that_no_key_has_is_refused(shared_server: Server, org: Any, asked: Any) -> None:
    body = {"name": "k", "role": "viewer", **asked}
    answer = ask(shared_server, org, method="POST", body=body, key=shared_server.platform_key)
    refused(answer, 400, "invalid-request")


@pytest.mark.parametrize("member", ["expires_in_days", "expires_at"])
def test_only_the_platform_makes_a_key_that_never_expires(
    shared_server: Server, org: Any, member: str
) -> None:
    body = {"name": "k", "role": "viewer", member: None}
    answer = ask(shared_server, org, method="POST", body=body)
    refused(answer, 403, "forbidden", "never expire")
    assert "the operator of this server" in answer.json()["detail"]
    made = ask(shared_server, org, method="POST", body=body, key=shared_server.platform_key)
    assert made.json()["expires_at"] is None


def test_the_key_of_an_auditor_expires_whoever_makes_it(shared_server: Server, org: Any) -> None:
    body = {"name": "k", "role": "auditor", "expires_in_days": None}
    for key in (org[1], shared_server.platform_key):
        answer = ask(shared_server, org, method="POST", body=body, key=key)
        refused(answer, 400, "invalid-request", "must expire")
    assert make(shared_server, org, role="auditor")["expires_at"] is not None


def test_a_key_ends_although_it_is_cached(shared_server: Server, org: Any) -> None:
    key = ending(shared_server, org, timedelta(seconds=2))
    path = f"/v1/orgs/{org[0]}/entries"
    assert shared_server.request("POST", path, {"n": 1}, key=key).status == 201
    until(lambda: whoami(shared_server, key).status == 401)
    refused(shared_server.request("POST", path, {"n": 2}, key=key), 401, "unauthorized", "expired")
    shown = {one["id"]: one for one in ask(shared_server, org).json()["keys"]}
    assert not shown[key_id(key)]["rotation_required"], "it is over"


def test_what_expires_soon_should_be_rotated(shared_server: Server, org: Any) -> None:
    soon, late = (make(shared_server, org, expires_in_days=days)["id"] for days in (14, 15))
    shown = {one["id"]: one["rotation_required"] for one in ask(shared_server, org).json()["keys"]}
    assert (shown[soon], shown[late], shown[key_id(org[1])]) == (True, False, False)


def aged(server: Server, org: tuple[str, str], days: int, lasts: timedelta | None) -> str:
    """The id of a key that was made some days ago."""
    services = server.services
    assert services is not None
    changes = services.key_changes
    changes.now = lambda: datetime.now(UTC) - days * DAY  # type: ignore[method-assign]
    try:
        return key_id(ending(server, org, lasts))
    finally:
        del changes.now


def rotations(server: Server, org: tuple[str, str]) -> dict[str, bool]:
    return {one["id"]: one["rotation_required"] for one in ask(server, org).json()["keys"]}


def limit(server: Server, org: tuple[str, str], days: Any, key: str | None = None) -> PeerAnswer:
    body = {"max_key_age_days": days}
    return server.request("PATCH", f"/v1/orgs/{org[0]}", body, key=key or org[1])


def test_a_key_older_than_its_org_allows_should_be_rotated(shared_server: Server, org: Any) -> None:
    new = make(shared_server, org, expires_in_days=365)["id"]
    old = aged(shared_server, org, 31, 365 * DAY)
    lasting = aged(shared_server, org, 31, None)
    over = aged(shared_server, org, 31, 30 * DAY)
    every = {new, old, lasting, over}

    def required() -> set[str]:
        return {one for one, required in rotations(shared_server, org).items() if required} & every

    assert required() == set()
    shown = limit(shared_server, org, 30)
    assert (shown.status, shown.json()["max_key_age_days"]) == (200, 30)
    assert required() == {old, lasting}
    changed = ask(shared_server, org, f"/{old}", "PATCH", body={"name": "renamed"}).json()
    assert changed["rotation_required"]
    assert limit(shared_server, org, 31).status == 200
    assert required() == {old, lasting}
    assert limit(shared_server, org, 32).status == 200
    assert required() == set()
    assert limit(shared_server, org, 1).status == 200
    assert required() == {old, lasting}
    assert ask(shared_server, org, f"/{lasting}", "DELETE").status == 204
    assert required() == {old}
    shown = limit(shared_server, org, 0)
    assert (shown.status, shown.json()["max_key_age_days"]) == (200, None)
    assert required() == set()


def test_an_admin_sets_the_age_of_keys_which_is_told(shared_server: Server, org: Any) -> None:
    for days in (-1, 366, 1.5, "30"):
        refused(limit(shared_server, org, days), 400, "invalid-request")
    refused(limit(shared_server, org, None), 400, "invalid-request", "max_key_age_days")
    for role in ("member", "auditor", "viewer"):
        key = make(shared_server, org, role=role)["key"]
        refused(limit(shared_server, org, 30, key), 403, "forbidden")
    assert limit(shared_server, org, 365).status == 200
    path = f"/v1/orgs/{org[0]}"
    renamed = shared_server.request("PATCH", path, {"name": "Renamed"}, key=org[1])
    assert renamed.json()["max_key_age_days"] == 365
    assert limit(shared_server, org, 7, shared_server.platform_key).status == 200
    told = [
        (entry["name"], entry["max_key_age_days"])
        for entry in own_payloads(shared_server, "quire.org_changed", "system")
        if entry["org"] == org[0]
    ]
    assert told == [(org[0], 365), ("Renamed", 365), ("Renamed", 7)]


# Rotation


def rotate(
    server: Server, org: tuple[str, str], of: str, key: str | None = None, **body: Any
) -> PeerAnswer:
    rest = f"/{key_id(of)}/rotate"
    return ask(server, org, rest, "POST", body=body or None, key=key or of)


@pytest.mark.parametrize("role", ["admin", "member", "auditor", "viewer"])
def test_a_key_rotates_itself(shared_server: Server, org: Any, role: str) -> None:
    old = make(shared_server, org, role=role, expires_in_days=30, allowed_cidrs=["127.0.0.1"])
    answer = rotate(shared_server, org, old["key"])
    assert answer.status == 201, answer.body
    new = answer.json()
    assert new["replaces"] == old["id"]
    assert (new["name"], new["role"], new["allowed_cidrs"]) == ("k", role, ["127.0.0.1/32"])
    assert days_ahead(new["expires_at"]) == pytest.approx(30, abs=0.1), "as long as the old one"
    assert days_ahead(new["old_expires_at"]) == pytest.approx(1, abs=0.1)
    for key in (old["key"], new["key"]):
        assert whoami(shared_server, key).status == 200, "both are valid"
    shown = {one["id"]: one for one in ask(shared_server, org).json()["keys"]}
    assert shown[old["id"]]["rotated_to"] == new["id"]
    assert shown[new["id"]]["created_by"] == f"key:{old['id']}"


def test_without_overlap_the_old_key_ends_at_once(shared_server: Server, org: Any) -> None:
    old = make(shared_server, org)
    assert whoami(shared_server, old["key"]).status == 200
    new = rotate(shared_server, org, old["key"], overlap_hours=0).json()
    assert whoami(shared_server, old["key"]).status == 401
    assert whoami(shared_server, new["key"]).status == 200


def test_an_overlap_makes_no_key_last_longer(shared_server: Server, org: Any) -> None:
    old = make(shared_server, org, expires_in_days=2)
    new = rotate(shared_server, org, old["key"], overlap_hours=720).json()
    assert new["old_expires_at"] == old["expires_at"]


@pytest.mark.parametrize("hours", [-1, 721, 1.5, "24", None])
def test_another_overlap_is_refused(shared_server: Server, org: Any, hours: Any) -> None:
    answer = rotate(shared_server, org, org[1], overlap_hours=hours)
    refused(answer, 400, "invalid-request")


def test_a_key_that_never_expires_is_followed_by_one_that_does(
    shared_server: Server, org: Any
) -> None:
    platform = shared_server.platform_key
    for by, lasts in ((None, False), (platform, True)):
        old = make(shared_server, org, expires_in_days=None, by=platform)
        new = rotate(shared_server, org, old["key"], by).json()
        assert (new["expires_at"] is None) == lasts


def test_only_an_admin_rotates_the_key_of_others(shared_server: Server, org: Any) -> None:
    victim, foreign = make(shared_server, org)["key"], shared_server.create_org("plain")
    for role in ("member", "auditor", "viewer"):
        other = make(shared_server, org, role=role)["key"]
        answer = rotate(shared_server, org, victim, other)
        refused(answer, 403, "forbidden", "an admin of the org can make")
    refused(rotate(shared_server, org, victim, foreign[1]), 404, "not-found", "there is no org")
    # By the path of one's own org, a foreign key is one that does not exist.
    seen = rotate(shared_server, foreign, victim, foreign[1])
    unknown = rotate(shared_server, foreign, f"x_y_{'0' * 16}_z", foreign[1])
    assert (seen.status, seen.body) == (unknown.status, unknown.body)
    assert seen.status == 404
    assert rotate(shared_server, org, victim, org[1]).status == 201


def test_a_key_is_rotated_once(shared_server: Server, org: Any) -> None:
    old = make(shared_server, org)["key"]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: rotate(shared_server, org, old), range(8)))
    made = [answer for answer in answers if answer.status == 201]
    assert len(made) == 1
    for answer in answers:
        if answer is not made[0]:
            refused(answer, 409, "key-ended")
    again = rotate(shared_server, org, old)
    refused(again, 409, "key-ended", made[0].json()["id"])
    assert len(ask(shared_server, org).json()["keys"]) == 3


def test_a_key_that_ended_is_not_rotated_or_changed(shared_server: Server, org: Any) -> None:
    revoked, expired = make(shared_server, org)["key"], ending(shared_server, org, timedelta(0))
    assert ask(shared_server, org, f"/{key_id(revoked)}", "DELETE").status == 204
    for key, word in ((revoked, "was revoked"), (expired, "expired")):
        refused(rotate(shared_server, org, key, org[1]), 409, "key-ended", word)
        changing = ask(shared_server, org, f"/{key_id(key)}", "PATCH", body={"name": "other"})
        refused(changing, 409, "key-ended", word)
    refused(rotate(shared_server, org, revoked), 401, "unauthorized")


def test_rotation_as_qwed_does_it(shared_server: Server, org: Any) -> None:
    old = make(shared_server, org)
    path = f"/admin/keys/rotate?key_id={old['id']}"
    answer = shared_server.request("POST", path, key=old["key"])
    assert answer.status == 200, answer.body
    new = answer.json()
    assert new.keys() == {
        "status",
        "old_key_id",
        "new_key_id",
        "new_key_preview",
        "new_key_secret",
    }
    secret = new["new_key_secret"]
    assert new["new_key_preview"] == f"{secret[:10]}...{secret[-4:]}"
    assert whoami(shared_server, secret).json()["key_id"] == new["new_key_id"]
    other = make(shared_server, org)["id"]
    platform, path = shared_server.platform_key, f"/admin/keys/rotate?key_id={other}"
    refused(shared_server.request("POST", path, key=platform), 400, "invalid-request", "?org=")
    foreign = shared_server.create_org("plain")
    refused(shared_server.request("POST", path, key=foreign[1]), 404, "not-found")
    named = f"{path}&org={org[0]}"
    refused(shared_server.request("POST", named, key=foreign[1]), 404, "not-found")
    assert shared_server.request("POST", named, key=platform).status == 200


# Changes


def test_a_key_is_renamed_and_goes_on(shared_server: Server, org: Any) -> None:
    key = make(shared_server, org, role="member")
    changed = ask(shared_server, org, f"/{key['id']}", "PATCH", body={"name": "other"})
    assert (changed.status, changed.json()["name"]) == (200, "other")
    path = f"/v1/orgs/{org[0]}/entries"
    assert shared_server.request("POST", path, {"n": 1}, key=key["key"]).status == 201
    for body in ({}, {"name": None}, {"role": "admin"}, {"name": "a\x07"}):
        answer = ask(shared_server, org, f"/{key['id']}", "PATCH", body=body)
        refused(answer, 400, "invalid-request")


def test_a_change_races_a_revocation(shared_server: Server, org: Any) -> None:
    for _ in range(5):
        key = make(shared_server, org)["key"]
        rest = f"/{key_id(key)}"
        with ThreadPoolExecutor(4) as threads:
            changes = [
                threads.submit(ask, shared_server, org, rest, "PATCH", body={"name": f"n{n}"})
                for n in range(3)
            ]
            revoking = threads.submit(ask, shared_server, org, rest, "DELETE")
        gone = revoking.result().status == 204
        statuses = [change.result().status for change in changes]
        assert set(statuses) <= {200, 409}
        assert gone or 200 in statuses
        assert (whoami(shared_server, key).status == 401) == gone


# Addresses


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["127.0.0.1"], ["127.0.0.1/32"]),
        (["::ffff:127.0.0.0/104"], ["127.0.0.0/8"]),
        (["0.0.0.0/0", "::/0", "0.0.0.0/0"], ["0.0.0.0/0", "::/0"]),
        (["2001:DB8:0::/48", "127.0.0.0/8"], ["2001:db8::/48", "127.0.0.0/8"]),
        ([], []),
    ],
)
def test_addresses_are_kept_in_their_normal_form(
    shared_server: Server, org: Any, given: list[str], shown: list[str]
) -> None:
    key = make(shared_server, org, allowed_cidrs=given)
    assert key["allowed_cidrs"] == shown
    assert whoami(shared_server, key["key"]).status == 200


@pytest.mark.parametrize(
    "given",
    [
        ["10.0.0.1/8"],
        ["fe80::1%eth0"],
        ["10.0.0.0/33"],
        ["10.0.0.0/8,11.0.0.0/8"],
        [" 10.0.0.0/8"],
        [""],
        ["localhost"],
        ["١٠.0.0.1"],
        ["10.0.0.0/255.0.0.0/8"],
        ["10.0.0.1"] * 101,
        ["1" * 50],
        [7],
        "10.0.0.1",
    ],
)
def test_what_is_no_range_of_addresses_is_refused(
    shared_server: Server, org: Any, given: Any
) -> None:
    body = {"name": "k", "role": "viewer", "allowed_cidrs": given}
    refused(ask(shared_server, org, method="POST", body=body), 400, "invalid-request")
    rest = f"/{key_id(org[1])}"
    changing = ask(shared_server, org, rest, "PATCH", body={"allowed_cidrs": given})
    refused(changing, 400, "invalid-request")


def events(server: Server, org: tuple[str, str]) -> list[str]:
    path = f"/v1/orgs/{org[0]}/security-events"
    found = server.request("GET", path, key=org[1]).json()["events"]
    return [one["detail"] for one in found if one["kind"] == "key_address_refused"]


def test_a_key_is_refused_from_elsewhere_and_reported_once(shared_server: Server, org: Any) -> None:
    key = make(shared_server, org, role="admin", allowed_cidrs=["192.0.2.0/24"])
    nothing = f"no-{secrets.token_hex(4)}"
    for path in (f"/v1/orgs/{org[0]}/head", f"/v1/orgs/{nothing}/head", "/v1/whoami"):
        for _ in range(3):
            answer = shared_server.request("GET", path, key=key["key"])
            refused(answer, 403, "address-not-allowed")
            assert "192.0.2" not in answer.json()["detail"], "the addresses are no one's business"
            assert "127.0.0.1" not in answer.json()["detail"]
    appending = shared_server.request("POST", f"/v1/orgs/{org[0]}/entries", {}, key=key["key"])
    refused(appending, 403, "address-not-allowed")
    until(lambda: events(shared_server, org))
    (told,) = events(shared_server, org)
    assert key["id"] in told
    assert "127.0.0.1" in told


def test_addresses_are_changed(shared_server: Server, org: Any) -> None:
    key = make(shared_server, org)
    for ranges, status in ((["192.0.2.1"], 403), (["127.0.0.1"], 200), ([], 200)):
        assert whoami(shared_server, key["key"]).status in (200, 403)  # it is cached
        body = {"allowed_cidrs": ranges}
        assert ask(shared_server, org, f"/{key['id']}", "PATCH", body=body).status == 200
        assert whoami(shared_server, key["key"]).status == status


# Lists and entries


def test_the_changes_of_keys_are_entries(shared_server: Server, org: Any) -> None:
    old = make(shared_server, org, role="auditor", allowed_cidrs=["127.0.0.1"])
    ask(shared_server, org, f"/{old['id']}", "PATCH", body={"name": "other"})
    new = rotate(shared_server, org, old["key"], overlap_hours=1).json()
    ask(shared_server, org, f"/{new['id']}", "DELETE")
    path, platform = "/v1/orgs/system/entries?limit=1000", shared_server.platform_key
    recorded = shared_server.request("GET", path, key=platform)
    told = [
        entry["payload"]
        for entry in recorded.json()["entries"]
        if entry["payload"].get("key") in (old["id"], new["id"])
    ]
    kinds = [one["event_type"].rpartition("_")[2] for one in reversed(told)]
    assert kinds == ["created", "changed", "rotated", "revoked"]
    rotated = told[1]
    assert rotated["actor"] == f"key:{old['id']}"
    assert rotated["rotated_to"]["key"] == new["id"]
    assert rotated["expires_at"] == new["old_expires_at"]
    assert rotated["allowed_cidrs"] == ["127.0.0.1/32"]
    assert new["key"].rpartition("_")[2] not in str(told)


def test_a_page_after_a_foreign_key_is_empty(shared_server: Server, org: Any) -> None:
    foreign = shared_server.create_org("plain")
    for cursor in (key_id(foreign[1]), "0" * 16, "x'"):
        page = ask(shared_server, org, f"?cursor={cursor}").json()
        assert page == {"keys": [], "next_cursor": None}
