"""Blocks of addresses over HTTP: made, extended, listed, lifted, and what a blocked caller gets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.blocked_callers import Gate
from tests.support.posting import problem_of
from tests.support.raw_http import Line


def test_a_blocked_caller_gets_403_with_the_time_left_until_it_is_lifted(gate: Gate) -> None:
    assert gate.coming("192.0.2.7").status == 200
    made = gate.ask_to_block("192.0.2.7", 2)
    assert made.status == 201, made.body
    shown = made.json()
    assert (shown["address"], shown["network"]) == ("192.0.2.7", "192.0.2.0/24")
    assert (shown["level"], shown["authentic"]) == (0, True)
    refused = gate.coming("192.0.2.7")
    assert (refused.status, problem_of(refused)) == (403, "address-blocked")
    left = int(refused.headers["retry-after"])
    assert 7_000 < left <= 7_200
    assert f"({left} seconds)" in refused.json()["detail"]
    assert gate.coming("192.0.2.8").status == 200
    assert gate.blocks()[shown["id"]] == shown
    assert gate.lift(shown["id"]) == 204
    assert gate.coming("192.0.2.7").status == 200
    assert gate.lift(shown["id"]) == 404
    assert shown["id"] not in gate.blocks()


def test_every_way_in_is_closed(gate: Gate) -> None:
    made = gate.block("192.0.2.20")
    org = f"/v1/orgs/{gate.server.org}"
    ways = {
        ("POST", f"{org}/entries"): {"event_type": "x"},
        ("GET", f"{org}/log/checkpoint"): None,
        ("GET", f"{org}/log/tile/0/000"): None,
        ("GET", "/v1/log/checkpoint"): None,
        ("GET", f"{org}/entries"): None,
        ("GET", "/livez"): None,
        ("GET", "/readyz"): None,
        ("GET", "/metrics"): None,
        ("GET", "/docs"): None,
        ("GET", "/no/such/path"): None,
        ("OPTIONS", "/v1/orgs"): None,
        ("HEAD", "/v1/whoami"): None,
        ("GET", "/v1/blocks"): None,
    }
    for (method, path), body in ways.items():
        answer = gate.coming("192.0.2.20", method, path, body, key=gate.server.platform_key)
        assert answer.status == 403, (method, path)
        assert int(answer.headers["retry-after"]) > 0
    assert gate.lift(made["id"]) == 204


def test_a_head_request_gets_no_body(gate: Gate) -> None:
    made = gate.block("192.0.2.21")
    with Line(gate.server) as line:
        line.send(b"HEAD /livez HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.21\r\n\r\n")
        last = b"host: x\r\nx-forwarded-for: 192.0.2.9\r\nconnection: close\r\n\r\n"
        line.send(b"GET /livez HTTP/1.1\r\n" + last)
        received = line.read()
    first, _, following = received.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 403 ")
    assert following.startswith(b"HTTP/1.1 200 ")
    assert gate.lift(made["id"]) == 204


def test_an_ipv6_address_is_blocked_with_its_site_and_a_mapped_one_as_ipv4(gate: Gate) -> None:
    made = gate.block("2001:db8:1:2::9")
    assert made["address"] == "2001:db8:1:2::/64"
    assert gate.coming("2001:db8:1:2:ffff::1").status == 403
    assert gate.coming("2001:db8:1:3::1").status == 200
    again = gate.ask_to_block("2001:db8:1:2::/64")
    assert (again.status, again.json()["id"]) == (201, made["id"])
    mapped = gate.block("::ffff:192.0.2.30")
    assert mapped["address"] == "192.0.2.30"
    assert gate.coming("192.0.2.30").status == 403
    for each in (made, mapped):
        assert gate.lift(each["id"]) == 204


def test_a_repeated_block_is_the_same_and_a_longer_one_extends_it(gate: Gate) -> None:
    made = gate.block("192.0.2.40", 2)
    assert gate.block("192.0.2.40", 2) == made
    assert gate.block("192.0.2.40", 1) == made
    longer = gate.block("192.0.2.40", 48, "still there")
    assert (longer["id"], longer["reason"]) == (made["id"], "still there")
    assert longer["until"] > made["until"]
    assert gate.lift(made["id"]) == 204
    anew = gate.block("192.0.2.40")
    assert anew["id"] != made["id"], "a late retry of the DELETE lifts no newer block"
    assert gate.lift(anew["id"]) == 204


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "0.0.0.0", "198.51.100.9", "2001:db8:e::1", "2001:db8:f:1::7"]
)
def test_what_is_exempt_can_not_be_blocked(gate: Gate, address: str) -> None:
    refused = gate.ask_to_block(address)
    assert (refused.status, problem_of(refused)) == (409, "address-exempt")
    assert "QUIRE_BLOCK_EXEMPT" in refused.json()["detail"]
    assert gate.blocks() == {}


def test_an_exempt_address_in_a_blocked_site_is_let_in(gate: Gate) -> None:
    made = gate.block("2001:db8:f:1::8")
    assert gate.coming("2001:db8:f:1::9").status == 403
    assert gate.coming("2001:db8:f:1::7").status == 200
    assert gate.lift(made["id"]) == 204


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"address": "192.0.2.0/24"}, "larger ranges at your firewall"),
        ({"address": "2001:db8::/32"}, "larger ranges at your firewall"),
        ({"address": "example.com"}, "must be an IP address"),
        ({"address": "fe80::1%eth0"}, "must be an IP address"),
        ({"address": "192.0.2.50", "reason": "192.0.2.50 tries keys"}, "names the address"),
        ({"address": "192.0.2.50", "hours": 721}, "hours"),
        ({"address": "192.0.2.50", "hours": 0}, "hours"),
        ({"address": "192.0.2.50", "reason": ""}, "reason"),
        ({"address": "192.0.2.50", "reason": "a\x00b"}, "control character"),
    ],
)
def test_what_can_t_be_meant_is_refused(gate: Gate, body: dict[str, Any], words: str) -> None:
    answer = gate.server.request(
        "POST", "/v1/blocks", {"reason": "x", **body}, key=gate.server.platform_key
    )
    assert answer.status == 400, answer.body
    assert words in answer.json()["detail"]


def test_only_the_platform_blocks(gate: Gate) -> None:
    for key in (gate.server.admin_key, gate.server.create_key(gate.server.org, "auditor")):
        for method, path in (("GET", ""), ("POST", ""), ("DELETE", "/0123456789abcdef")):
            body = {"address": "192.0.2.1", "reason": "x"} if method == "POST" else None
            answer = gate.server.request(method, f"/v1/blocks{path}", body, key=key)
            assert (answer.status, problem_of(answer)) == (403, "forbidden")


def test_the_list_has_pages(gate: Gate) -> None:
    made = {gate.block(f"192.0.2.{last}")["id"] for last in range(60, 65)}
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = gate.server.request(
            "GET", f"/v1/blocks?limit=2&cursor={cursor}", key=gate.server.platform_key
        ).json()
        found += [each["id"] for each in page["blocks"]]
        cursor = page["next_cursor"]
    assert found == sorted(made)
    assert all(gate.lift(each) == 204 for each in made)


def test_refused_requests_and_blocks_are_counted_and_told(gate: Gate) -> None:
    def counted() -> dict[str, float]:
        lines = [line.rpartition(" ") for line in gate.server.metrics().splitlines()]
        names = ("quire_blocked_requests_total", "quire_address_blocks")
        return {name: float(value) for name, _, value in lines if name in names}

    before = counted()
    made = gate.block("192.0.2.70")
    gate.coming("192.0.2.70")
    after = counted()
    assert {name: after[name] - before[name] for name in after} == {
        "quire_blocked_requests_total": 1,
        "quire_address_blocks": 1,
    }
    assert gate.server.services is not None
    refused = [place for window in gate.server.services.recorder.take() for place in window.refused]
    assert "address_blocked" in {place.reason for place in refused}
    assert gate.lift(made["id"]) == 204
    events = gate.server.request(
        "GET", "/v1/orgs/system/security-events?kind=address_blocked", key=gate.server.platform_key
    ).json()["events"]
    told = next(each for each in events if each["details"]["block"] == made["id"])
    assert told["severity"] == "high"
    assert "192.0.2.0/24" in told["detail"]
    entries = gate.server.request(
        "GET", "/v1/orgs/system/entries?limit=2", key=gate.server.platform_key
    ).json()["entries"]
    kinds = [each["event_type"] for each in entries]
    assert kinds == ["quire.address_unblocked", "quire.address_blocked"]
