"""An erasure erases the named person or no one, directly and through a proxy that rewrites paths."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from ledger.client import AsyncLedgerClient, LedgerClient
from tests.cli.commands import run
from tests.support.described import OPERATIONS
from tests.support.nginx import nginx
from tests.support.serving import Server

PAIRS = [
    ("team/../carol", "carol"),
    ("https://idp.example/u//7", "https:/idp.example/u/7"),
    ("a//b", "a/b"),
    ("/lead", "lead"),
    ("trail/", "trail"),
    ("dot/.", "dot"),
    ("..", "."),
    ("./x", "x"),
    ("x?y=1", "x"),
    ("x#y", "x"),
    ("x;y=1", "x"),
    ("a%2Fb", "a/b"),
    ("a%252Fb", "a%2Fb"),
    ("%61da", "ada"),
    ("ü", "u\u0308"),
    ("Zoë", "Zoë "),
    (" padded ", "padded"),
    ("two  words", "two words"),
    ("a+b", "a b"),
    ("back\\slash", "back/slash"),
    ("漢字", "汉字"),
    ('quo"te', "quo'te"),
    ("x" * 1_024, "x" * 1_023),
]
UNSAFE = sorted(
    {name for pair in PAIRS for name in pair if not re.fullmatch(r"[a-z]+", name)}
    | {
        "a.",
        ".a",
        "...",
        "a\tb",
        "a\x00b",
        "a\x7fb",
        "\u202ebob",
        "a/b/../c",
        "//",
        "/",
        "a&b",
        "a|b",
    }
)
SAFE = ["bob", "ada@example.com", "user:123", "a.b-c_d~e", "k=v", "1,2", "..a..b"[2:], "ref:abc"]


class ServedTrail:
    """A sealing org in which each name of a pair is the subject of one entry."""

    def __init__(self, server: Server, *names: str) -> None:
        self.server = server
        self.org, self.key = server.create_org()
        events = [{"subject": name, "secret": "about them"} for name in names]
        path = f"/v1/orgs/{self.org}/entries"
        assert server.request("POST", path, events, key=self.key).status == 201
        self.names = names

    def erased(self) -> set[str]:
        """The names whose entries can no longer be opened."""
        path = f"/v1/orgs/{self.org}/entries?order=asc"
        entries = self.server.request("GET", path, key=self.key).json()["entries"]
        return {name for name, entry in zip(self.names, entries, strict=False) if entry["erased"]}

    def delete(self, url: str, path: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
        """Send a DELETE with exactly this path, which no library normalises."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        try:
            connection.putrequest(
                "DELETE", f"{parts.path}/v1/orgs/{self.org}/{path}", skip_accept_encoding=True
            )
            connection.putheader("x-api-key", self.key)
            connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(content) if content.startswith(b"{") else {}


@pytest.fixture(scope="module")
def proxied_url(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's URL behind nginx with a path prefix, as documented."""
    locations = f"location /audit/ {{ proxy_pass {shared_server.url}/; }}"
    with nginx(tmp_path_factory.mktemp("nginx"), locations) as url:
        yield f"{url}/audit"


@pytest.mark.parametrize("named", [0, 1])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: ascii(pair[0][:12]))
def test_the_client_erases_the_person_it_names_through_a_proxy(
    shared_server: Server, proxied_url: str, pair: tuple[str, str], named: int
) -> None:
    trail, name = ServedTrail(shared_server, *pair), pair[named]
    with LedgerClient(proxied_url, trail.key) as ledger:
        erasure = ledger.erase_subject(name)
    assert (erasure.subject, trail.erased()) == (name, {name})


def test_the_asyncio_client_erases_the_person_it_names_too(
    shared_server: Server, proxied_url: str
) -> None:
    trail = ServedTrail(shared_server, *PAIRS[0])

    async def erase() -> str:
        async with AsyncLedgerClient(proxied_url, trail.key) as ledger:
            return (await ledger.erase_subject(PAIRS[0][0])).subject

    assert asyncio.run(erase()) == PAIRS[0][0]
    assert trail.erased() == {PAIRS[0][0]}


@pytest.mark.parametrize("name", ["team/../carol", "https://idp.example/u//7", "-- x", "..", "ü b"])
def test_the_command_erases_the_person_it_names_through_a_proxy(
    shared_server: Server, proxied_url: str, name: str
) -> None:
    trail = ServedTrail(shared_server, name, "carol")
    settings = {"QUIRE_URL": proxied_url, "QUIRE_API_KEY": trail.key}
    done = run("subjects", "erase", "--yes", "--json", "--", trail.org, name, settings=settings)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["subject"] == name
    assert trail.erased() == {name}


@pytest.mark.parametrize("way", ["direct", "proxied"])
@pytest.mark.parametrize("name", UNSAFE, ids=ascii)
def test_a_name_in_a_path_that_a_proxy_could_change_is_refused(
    shared_server: Server, proxied_url: str, name: str, way: str
) -> None:
    names = [n for n in (name, "bob") if n.isprintable() or n == "\u202ebob"]
    trail = ServedTrail(shared_server, *names)
    url = shared_server.url if way == "direct" else proxied_url
    status, problem = trail.delete(url, f"subjects/{quote(name, safe='')}")
    assert status in {400, 404, 405}  # a proxy may have changed it into another route
    assert not trail.erased()
    if way == "direct" and name.strip("/."):
        assert status == 400
        assert f"POST /v1/orgs/{trail.org}/erasures" in problem["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "subjects/a/b",
        "subjects/bob/",
        "subjects//bob",
        "subjects/./bob",
        "subjects/../subjects/bob",
        "subjects/bob/.",
        "subjects/bob;v=1",
        "subjects/b%6Fb%",
        "subjects/%ff",
        "subjects/Ren%E9",
        "subjects/%252e%252e%252fbob",
        "subjects/b+b",
        "subjects/bob?y=1",
        "subjects/bob?y",
        "subjects/bob?=",
        "subjects/bob?&",
        "subjects/bob?subject=ann",
    ],
)
def test_a_path_beyond_a_name_erases_no_one(shared_server: Server, path: str) -> None:
    trail = ServedTrail(shared_server, "bob")
    status, problem = trail.delete(shared_server.url, path)
    assert status in {400, 404}, problem
    assert not trail.erased()


@pytest.mark.parametrize("body", [b'{"subject":"ann"}', b'{"subject":"bob"}', b"{}", b" "])
def test_a_request_that_names_a_person_in_two_places_erases_no_one(
    shared_server: Server, body: bytes
) -> None:
    trail = ServedTrail(shared_server, "bob", "ann")
    status, problem = trail.delete(shared_server.url, "subjects/bob", body)
    assert (status, trail.erased()) == (400, set())
    assert f"POST /v1/orgs/{trail.org}/erasures" in problem["detail"]


@pytest.mark.parametrize("name", SAFE)
def test_a_name_that_no_proxy_changes_is_erased_by_its_path(
    shared_server: Server, proxied_url: str, name: str
) -> None:
    for url, encoded in (
        (shared_server.url, name),
        (shared_server.url, quote(name, safe="")),
        (proxied_url, name),
        (proxied_url, quote(name, safe="")),
    ):
        trail = ServedTrail(shared_server, name, f"{name}x")
        status, body = trail.delete(url, f"subjects/{encoded}")
        assert (status, body.get("subject"), trail.erased()) == (200, name, {name})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'"bob"',
        b'{"subject": ""}',
        b'{"subject": null}',
        b'{"subject": 5}',
        b'{"subject": ["bob"]}',
        b'{"subject": "bob", "reason": "asked"}',
        b'{"subject": "bob", "subjects": []}',
        b'{"name": "bob"}',
        b'{"subject": "b\\u0000b"}',
        b'{"subject": "\\ud800"}',
        b'{"subject": "Ren\xe9"}',
        b'{"subject": "%s"}' % (b"x" * 1_025),
        b"subject=bob",
    ],
)
def test_a_body_without_exactly_one_name_erases_no_one(shared_server: Server, body: bytes) -> None:
    trail = ServedTrail(shared_server, "bob")
    path = f"/v1/orgs/{trail.org}/erasures"
    answer = shared_server.request("POST", path, body, key=trail.key)
    assert (answer.status, trail.erased()) == (400, set())


def test_the_answer_names_the_erased_person_and_the_entry(shared_server: Server) -> None:
    trail = ServedTrail(shared_server, "bob", "ann")
    path = f"/v1/orgs/{trail.org}/erasures"
    answer = shared_server.request("POST", path, {"subject": "bob"}, key=trail.key)
    assert answer.status == 200
    erased = answer.json()
    assert (erased["subject"], erased["erased"]) == ("bob", True)
    record = f"/v1/orgs/{trail.org}/entries/{erased['record_id']}"
    recorded = shared_server.request("GET", record, key=trail.key).json()
    assert recorded["event_type"] == "quire.subject_erased"
    again = shared_server.request("POST", path, {"subject": "bob"}, key=trail.key)
    assert again.status == 404


def test_a_plain_org_has_no_key_to_erase(shared_server: Server) -> None:
    org, key = shared_server.create_org("plain")
    answer = shared_server.request("POST", f"/v1/orgs/{org}/erasures", {"subject": "bob"}, key=key)
    assert (answer.status, answer.json()["type"].rpartition("/")[2]) == (409, "conflict")


WRITING = sorted(route for route in OPERATIONS if route[0] not in {"GET", "HEAD"})


@pytest.mark.parametrize("route", WRITING, ids=" ".join)
@pytest.mark.parametrize("query", ["y=1", "y", "Wait=1", "wait=1&y=", "=", "&", "dry_run=true"])
def test_a_query_that_a_writing_route_does_not_know_is_refused(
    shared_server: Server, route: tuple[str, str], query: str
) -> None:
    method, path = route
    things = {"org": shared_server.org, "subject": "nobody", "key_id": "0" * 16}
    things |= {"event_id": "1", "block_id": "0" * 16}
    answer = shared_server.request(
        method, f"{path.format_map(things)}?{query}", {}, key=shared_server.platform_key
    )
    assert answer.status == 400, answer.body
    assert "400" in OPERATIONS[route]["responses"]


def test_a_revocation_with_an_unknown_query_revokes_nothing(shared_server: Server) -> None:
    org, key = shared_server.create_org()
    other = shared_server.create_key(org, "viewer")
    path = f"/v1/orgs/{org}/keys/{other.split('_')[2]}"
    assert shared_server.request("DELETE", f"{path}?dry_run=1", key=key).status == 400
    assert shared_server.request("GET", "/v1/whoami", key=other).status == 200
    assert shared_server.request("DELETE", path, key=key).status == 204


def test_a_key_id_can_not_lead_to_a_person_through_a_proxy(
    shared_server: Server, proxied_url: str, tmp_path: Path
) -> None:
    trail = ServedTrail(shared_server, "carol")
    settings = {"QUIRE_URL": proxied_url, "QUIRE_API_KEY": trail.key}
    done = run("keys", "revoke", trail.org, "../subjects/carol", settings=settings, cwd=tmp_path)
    assert done.returncode == 2
    assert not trail.erased()
