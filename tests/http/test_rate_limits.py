"""Rate limits over HTTP: of keys, orgs, addresses and the installation, set by org and by settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any
from uuid import uuid4

import pytest

from server.access.limits.rates import RateLimits
from server.access.limits.rules import LimitScope
from tests.support.clusters import Cluster
from tests.support.posting import problem_of
from tests.support.serving import PeerAnswer, Server, start_server

A_MINUTE = {"append_per_minute": 1, "read_per_minute": 1, "verify_per_minute": 1}
NONE = dict.fromkeys(A_MINUTE)


@pytest.fixture(scope="module")
def server(postgres_cluster: Cluster, session_dir: Path) -> Iterator[Server]:
    """A server behind a proxy on loopback, with one request a minute for each address without a key."""
    database = postgres_cluster.migrated()
    running = start_server(
        database,
        session_dir / uuid4().hex[:8],
        trusted_proxies="127.0.0.1",
        address_per_minute=1,
        org_new_keys_per_hour=3,
        key_read_per_minute=6_000,
    )
    yield running
    running.stop()
    postgres_cluster.drop(database)


@pytest.fixture
def limits(server: Server) -> RateLimits:
    assert server.services is not None
    return server.services.limits


def visit(server: Server, path: str, address: str, key: str | None = None) -> PeerAnswer:
    """Read as a client of the proxy."""
    return server.request("GET", path, key=key, headers={"x-forwarded-for": address})


def set_limits(
    server: Server, org: str, key: str, of_key: dict[str, Any], of_org: dict[str, Any]
) -> PeerAnswer:
    body = {"key": of_key, "org": of_org}
    return server.request("PUT", f"/v1/orgs/{org}/limits", body, key=key)


def append(server: Server, org: str, key: str) -> PeerAnswer:
    return server.request("POST", f"/v1/orgs/{org}/entries", {"n": 1}, key=key)


def limited_org(server: Server, of_key: dict[str, Any], of_org: dict[str, Any]) -> tuple[str, str]:
    org, key = server.create_org("plain")
    answer = set_limits(server, org, server.platform_key, of_key, of_org)
    assert answer.status == 200, answer.body
    return org, key


def assert_refused(answer: PeerAnswer, scope: str, policy: str) -> None:
    assert (answer.status, problem_of(answer)) == (429, "too-many-requests"), answer.body
    assert answer.json()["scope"] == scope
    wait = int(answer.headers["retry-after"])
    assert 0 < wait <= 60
    name = policy.partition(";")[0]
    assert answer.headers["ratelimit-policy"] == policy
    assert answer.headers["ratelimit"] == f"{name};r=0;t={wait}"


@pytest.mark.parametrize("path", ["/v1/log/anchors", "/v1/log/checkpoint", "/docs", "/v1/whoami"])
def test_callers_without_a_key_are_limited_by_address(server: Server, path: str) -> None:
    """On open routes, on those of the short way, and where they are refused for lacking a key."""
    address = f"2001:db8:{token_hex(2)}::"
    assert visit(server, path, f"{address}1").status in {200, 401, 404}
    refused = visit(server, path, f"{address}2")  # of the same /64
    assert_refused(refused, "address", '"address-other";q=1;w=60')
    assert "Address rate limit exceeded" in refused.json()["detail"]
    assert visit(server, "/livez", f"{address}1").status == 200
    assert visit(server, "/readyz", f"{address}1").status == 200
    assert visit(server, "/v1/whoami", f"{address}1", server.platform_key).status == 200
    assert visit(server, path, "127.0.0.1").status != 429


def test_keys_that_are_none_count_as_no_key_and_valid_ones_do_not(server: Server) -> None:
    org, key = server.create_org()
    address = f"2001:db8:{token_hex(2)}::1"
    for _ in range(3):
        assert visit(server, "/v1/whoami", address, key).status == 200
    guessed = f"{key.rpartition('_')[0]}_{token_hex(24)}"
    assert visit(server, "/v1/whoami", address, guessed).status == 401
    assert_refused(
        visit(server, "/v1/whoami", address, guessed), "address", '"address-other";q=1;w=60'
    )
    for junk in ("junk", f"quire_live_{token_hex(8)}_{token_hex(24)}"):
        assert visit(server, "/v1/whoami", address, junk).status == 429
    # A key that this process has not seen yet is not locked out by others of its address.
    fresh = server.create_key(org, "viewer")
    assert visit(server, "/v1/whoami", address, fresh).status == 200


def test_a_public_log_counts_in_the_limits_of_a_key_if_one_is_sent(server: Server) -> None:
    org, key = limited_org(server, {**NONE, "read_per_minute": 1}, NONE)
    assert server.request("PATCH", f"/v1/orgs/{org}", {"log_public": True}, key=key).status == 200
    path, address = f"/v1/orgs/{org}/log/checkpoint", f"2001:db8:{token_hex(2)}::1"
    assert [visit(server, path, address).status for _ in "ab"] == [404, 429]
    assert visit(server, path, address, key).status == 404
    assert_refused(visit(server, path, address, key), "key", '"key-read";q=1;w=60')


def test_each_key_has_its_limit_and_all_have_that_of_the_org(server: Server) -> None:
    org, key = limited_org(server, A_MINUTE, {**NONE, "append_per_minute": 2})
    assert append(server, org, key).status == 201
    assert_refused(append(server, org, key), "key", '"key-append";q=1;w=60')
    other = server.create_key(org, "member")
    assert_refused(append(server, org, other), "org", '"org-append";q=2;w=60')
    # What the org's limit refused is left in the key's: without it, the key may append at once.
    assert set_limits(server, org, server.platform_key, A_MINUTE, NONE).status == 200
    assert append(server, org, other).status == 201
    head = f"/v1/orgs/{org}/head"
    assert server.request("GET", head, key=key).status == 200
    assert_refused(server.request("GET", head, key=key), "key", '"key-read";q=1;w=60')
    assert server.request("GET", head, key=server.platform_key).status == 200


def test_what_is_refused_before_uses_no_limit(server: Server) -> None:
    org, key = limited_org(server, NONE, A_MINUTE)
    viewer = server.create_key(org, "viewer")
    other, other_key = server.create_org("plain")
    assert append(server, org, viewer).status == 403
    assert append(server, org, other_key).status == 404
    assert append(server, other, key).status == 404
    assert append(server, org, key).status == 201
    assert append(server, org, key).status == 429


def test_verifications_are_counted_exactly(server: Server) -> None:
    org, key = limited_org(server, {**NONE, "verify_per_minute": 2}, NONE)
    path = f"/v1/orgs/{org}/verifications"
    record = append(server, org, key).json()["record_id"]
    assert server.request("POST", path, {}, key=key).status == 202
    one = server.request("GET", f"/admin/compliance/verify/{record}", key=key)
    assert one.status == 200
    refused = server.request("POST", path, {}, key=key)
    assert_refused(refused, "key", '"key-verify";q=2;w=60')
    assert "API key rate limit exceeded" in refused.json()["detail"]


def test_an_org_makes_so_many_keys_an_hour_and_the_platform_any_number(server: Server) -> None:
    org, key = server.create_org()
    path, asked = f"/v1/orgs/{org}/keys", {"name": "k", "role": "viewer"}
    made = [server.request("POST", path, asked, key=key) for _ in range(3)]
    assert [one.status for one in made] == [201] * 3
    refused = server.request("POST", path, asked, key=key)
    assert (refused.status, refused.json()["scope"]) == (429, "org")
    assert 60 < int(refused.headers["retry-after"]) <= 1_200
    rotate = f"{path}/{made[0].json()['id']}/rotate"
    assert server.request("POST", rotate, {}, key=key).status == 429
    assert server.request("POST", path, asked, key=server.platform_key).status == 201


def test_an_admin_tightens_limits_but_loosens_none_of_the_platform(server: Server) -> None:
    org, key = server.create_org()
    path = f"/v1/orgs/{org}/limits"
    given = {"key": {**NONE, "read_per_minute": 6_000}, "org": NONE}
    assert server.request("GET", path, key=key).json() == given
    tight = {"key": {**A_MINUTE, "read_per_minute": 5_000}, "org": NONE}
    assert server.request("PUT", path, tight, key=key).json() == tight
    assert server.request("GET", path, key=key).json() == tight
    for count in (6_001, None):
        asked = {"key": {"read_per_minute": count}, "org": {}}
        refused = server.request("PUT", path, asked, key=key)
        assert (refused.status, problem_of(refused)) == (403, "forbidden")
        assert "at most 6,000" in refused.json()["detail"]
    assert server.request("PUT", path, given, key=key).json() == given
    more = {"key": {**NONE, "read_per_minute": 9_000}, "org": NONE}
    assert server.request("PUT", path, more, key=server.platform_key).json() == more
    assert server.request("PUT", path, more, key=key).status == 200
    for wrong in ({"key": {"append_per_minute": 0}, "org": {}}, {"key": {"appends": 1}, "org": {}}):
        assert server.request("PUT", path, wrong, key=key).status == 400


def test_a_change_of_limits_is_an_entry(server: Server) -> None:
    org, key = limited_org(server, A_MINUTE, NONE)
    path = "/v1/orgs/system/entries?event_type=quire.limits_changed&limit=1"
    (entry,) = server.request("GET", path, key=server.platform_key).json()["entries"]
    payload = entry["payload"]
    assert payload["org"] == org
    assert (payload["key_limits"], payload["org_limits"]) == (A_MINUTE, NONE)
    assert payload["actor"] == f"key:{server.platform_key.split('_')[2]}"
    assert set_limits(server, org, key, A_MINUTE, NONE).status == 200


def test_a_refusal_is_counted_and_told(server: Server) -> None:
    org, key = limited_org(server, A_MINUTE, NONE)
    counted = 'quire_rate_limited_total{request="append",scope="key"} '
    before = count_of(server, counted)
    assert [append(server, org, key).status for _ in range(3)] == [201, 429, 429]
    assert count_of(server, counted) == before + 2
    assert server.services is not None
    refused = [
        (place.source, place.reason)
        for window in server.services.recorder.take()
        for place in window.refused
    ]
    assert (f"key:{key.split('_')[2]}", "too_many_requests") in refused


def count_of(server: Server, name: str) -> float:
    lines = server.metrics().splitlines()
    return float(next((line.removeprefix(name) for line in lines if line.startswith(name)), 0))


def test_a_limit_of_the_installation_holds_for_all_but_the_platform(
    server: Server, limits: RateLimits
) -> None:
    org, key = server.create_org("plain")
    unlimited = limits._all
    limits._all = unlimited._replace(per_minute=1)
    try:
        assert append(server, org, key).status == 201
        other, other_key = server.create_org("plain")
        refused = append(server, other, other_key)
        assert_refused(refused, LimitScope.INSTALLATION, '"installation-other";q=1;w=60')
        assert server.request("GET", "/v1/log/anchors").status == 429
        assert server.request("GET", "/livez").status == 200
        assert append(server, org, server.platform_key).status == 201
    finally:
        limits._all = unlimited
    assert append(server, org, key).status == 201
