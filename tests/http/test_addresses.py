"""The address of a request behind proxies, as every part of a running server gets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from litestar import Router, get

from server.app.features import FEATURES
from server.feature import Feature
from server.http.caller import HttpRequest
from server.http.contract import needs_no_key
from server.http.protocol.address import address_of
from server.settings import Settings, SettingsError
from tests.support.clusters import Cluster
from tests.support.raw_http import Line, head
from tests.support.serving import Server, start_server


@get("/toy/address", opt=needs_no_key(), include_in_schema=False)
async def shown(request: HttpRequest) -> dict[str, Any]:
    """Show the address of the request, and what frameworks take for it."""
    found = address_of(request.scope)
    assert request.client is not None
    return {"address": str(found), "group": found.group, "client": request.client.host}


router = Router("/", route_handlers=[shown])
SHOWING: Final = Feature(name="showing", routes=(f"{__name__}:router",))


@pytest.fixture(scope="module", params=["x-forwarded-for", "forwarded"])
def proxied(
    postgres_cluster: Cluster, session_dir: Path, request: pytest.FixtureRequest
) -> Iterator[Server]:
    database = postgres_cluster.migrated()
    server = start_server(
        database,
        session_dir / uuid4().hex[:8],
        (*FEATURES, SHOWING),
        trusted_proxies="127.0.0.0/8, 10.0.0.0/8",
        proxy_header=request.param,
    )
    yield server
    server.stop()
    postgres_cluster.drop(database)


def asked(server: Server, *fields: str, version: str = "1.1") -> dict[str, str]:
    with Line(server) as line:
        sent = f"GET /toy/address HTTP/{version}\r\nhost: x\r\nconnection: close\r\n"
        line.send((sent + "".join(f"{field}\r\n" for field in fields) + "\r\n").encode("latin-1"))
        answer = line.answer()
    assert answer.status == 200, answer.body
    found: dict[str, str] = answer.json()
    assert found["client"] == found["address"]
    return found


def test_the_header_of_the_settings_decides(proxied: Server) -> None:
    by_rfc_7239 = proxied.settings.proxy_header == "forwarded"
    sent = (
        "x-real-ip: 6.6.6.6",
        "X-Forwarded-For: 6.6.6.6, 203.0.113.9",
        "x-forwarded-for: 10.0.0.7",
        "Forwarded: for=6.6.6.6, for=203.0.113.7;proto=http",
        'forwarded: for="10.0.0.7:80"',
    )
    expected = "203.0.113.7" if by_rfc_7239 else "203.0.113.9"
    for version in ("1.1", "1.0"):
        assert asked(proxied, *sent, version=version)["address"] == expected


def test_an_unreadable_hop_is_the_peer(proxied: Server) -> None:
    sent = ("x-forwarded-for: 203.0.113.9, unknown", "forwarded: for=203.0.113.9, for=unknown")
    assert asked(proxied, *sent)["address"] == "127.0.0.1"
    assert asked(proxied)["address"] == "127.0.0.1"


def test_ipv6_is_counted_by_its_site(proxied: Server) -> None:
    sent = ("x-forwarded-for: [2001:db8:1:2::9]:5", 'forwarded: for="[2001:db8:1:2::9]:5"')
    found = asked(proxied, *sent)
    assert (found["address"], found["group"]) == ("2001:db8:1:2::9", "2001:db8:1:2::/64")


def test_requests_of_one_connection_have_addresses_of_their_own(proxied: Server) -> None:
    with Line(proxied) as line:
        for last in range(3):
            hop = f"203.0.113.{last}"
            line.send(head("GET", "/toy/address", x_forwarded_for=hop, forwarded=f"for={hop}"))
            assert line.next_answer().json()["address"] == hop


def test_without_trusted_proxies_nothing_is_read(shared_server: Server) -> None:
    """The short routes and the rest get the peer: the state of the protocol has no other."""
    assert shared_server.settings.trusted_proxies == ""
    answer = shared_server.request("GET", "/livez", headers={"x-forwarded-for": "6.6.6.6"})
    assert answer.status == 200


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("QUIRE_TRUSTED_PROXIES", "10.0.0.0/8, proxy.example", '"proxy.example" is not an IP'),
        ("QUIRE_TRUSTED_PROXIES", "10.0.0.1/8", "the bits after the prefix must be zero"),
        ("QUIRE_TRUSTED_PROXIES", "0.0.0.0/0", "trusts every address"),
        ("QUIRE_TRUSTED_PROXIES", "10.0.0.0/8,::/0", "trusts every address"),
        ("QUIRE_TRUSTED_PROXIES", "::ffff:0:0/96", "trusts every address"),
        ("QUIRE_PROXY_HEADER", "x-real-ip", "one of forwarded, x-forwarded-for"),
        ("QUIRE_METRICS_TOKEN", "short", "16 to 1,000 visible ASCII characters"),
        ("QUIRE_METRICS_TOKEN", "with a space in the middle", "16 to 1,000 visible"),
        ("QUIRE_METRICS_PORT", "8080", "needs a port of its own"),
    ],
)
def test_settings_that_can_t_be_meant_are_refused(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({name: value})
    assert name in str(caught.value)
    assert said in str(caught.value)
    if "TOKEN" in name:
        assert value not in str(caught.value)
