"""Every answer has the default headers; only answers that are declared may be kept by a cache."""

from __future__ import annotations

import http.client
import json
from http.client import HTTPMessage
from urllib.parse import urlsplit

import pytest

from server.http.protocol.connection import MAX_HEAD_BYTES
from server.http.protocol.response_headers import CACHED, PRIVATE, PUBLIC, with_defaults
from tests.support.raw_http import Line, head
from tests.support.route_matrix import Case, Matrix, cases
from tests.support.serving import PeerAnswer, Server
from tests.support.signed_trees import SignedTrees

CASES = cases()


@pytest.fixture(scope="module")
def matrix(shared_server: Server) -> Matrix:
    return Matrix(shared_server)


def has_defaults(answer: PeerAnswer, cached: tuple[bytes, ...] = ()) -> None:
    """Check the headers of an answer; it may be kept by a cache only as declared."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["vary"].startswith("authorization, x-api-key")
    allowed = {"no-store", *(value.decode() for value in cached)}
    assert headers["cache-control"] in (allowed if answer.status == 200 else {"no-store"})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_route_answers_with_the_defaults(matrix: Matrix, case: Case) -> None:
    for key in (*matrix.own.values(), *matrix.faulty.values()):
        has_defaults(matrix.call(case, key), CACHED.get(case.path, ()))


def test_the_declared_routes_exist() -> None:
    assert {case.path for case in CASES} >= CACHED.keys()


def test_an_answer_with_a_key_is_kept_by_no_shared_cache() -> None:
    for path, values in CACHED.items():
        if "{org}" in path:
            assert any(value.startswith(PRIVATE) for value in values), path
    keyed = [case for case in CASES if not case.contract.open and case.path in CACHED]
    assert all(case.contract.public for case in keyed)
    assert not any(value.startswith(PUBLIC) for value in CACHED["/static/{name}"])


def test_a_route_can_t_let_caches_keep_its_answer_by_itself() -> None:
    own = [
        (b"Cache-Control", b"public, max-age=60"),
        (b"x-content-type-options", b"other"),
        (b"Vary", b"Accept"),
        (b"content-type", b"text/plain"),
    ]
    assert dict(with_defaults(own)) == {
        b"content-type": b"text/plain",
        b"cache-control": b"no-store",
        b"x-content-type-options": b"nosniff",
        b"vary": b"authorization, x-api-key, accept",
    }
    assert len(with_defaults(own)) == 4


@pytest.mark.parametrize("sent", [
    head("OPTIONS", "/livez"), head("OPTIONS", "*"), head("PUT", "/livez"), head("GET", "/nothing"),
    head("GET", "//livez"), head("GET", "/livez", expect="200-ok"), head("GET", "/livez#x"),
    b"GET /livez HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"GET /livez HTTP/2.0\r\nhost: x\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nhost: x\r\nx: " + b"x" * (MAX_HEAD_BYTES + 70_000),
    b"GET /livez HTTP/1.0\r\n\r\n", b"HEAD /v1/whoami HTTP/1.0\r\n\r\n",
    head("POST", "/v1/orgs/x/entries", content_type="text/plain; charset=latin1", content_length="0"),
    head("POST", "/v1/orgs/x/entries", content_length="0"),
], ids=lambda sent: sent[:30].decode())  # fmt: skip
def test_answers_of_the_protocol_have_the_defaults(shared_server: Server, sent: bytes) -> None:
    if b" HTTP/1.1\r\nhost: test\r\n" in sent:
        sent = sent.replace(b"host: test", b"host: test\r\nconnection: close")
    with Line(shared_server) as line:
        line.send(sent)
        received = line.read()
    fields = received.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")[1:]
    assert fields.count(b"cache-control: no-store") == 1, received
    assert fields.count(b"x-content-type-options: nosniff") == 1
    assert sum(field.startswith(b"vary: authorization, x-api-key") for field in fields) == 1


def test_each_header_is_sent_once(shared_server: Server) -> None:
    """Also where a route, or its framework, sets it: streams, bundles, tiles, proofs."""
    server, (org, key) = shared_server, shared_server.create_org("plain")
    made = server.request("POST", f"/v1/orgs/{org}/entries", {"n": 1}, key=key).json()
    signed = SignedTrees(server)
    signed.sign()
    signed.anchor()
    job = server.request("POST", f"/v1/orgs/{org}/verifications?wait=30", key=key).json()["id"]
    record = made["record_id"]
    for method, path in (
        ("GET", f"/v1/orgs/{org}/verifications/{job}/events"),
        ("GET", f"/v1/orgs/{org}/entries/{record}/proof"),
        ("GET", f"/v1/orgs/{org}/entries/{record}/payload"),
        ("GET", f"/v1/orgs/{org}/log/checkpoint"),
        ("GET", f"/v1/orgs/{org}/log/tile/entries/000.p/1"),
        ("GET", "/v1/log/checkpoint"),
        ("GET", "/static/docs.js"),
        ("GET", "/verify"),
        ("GET", "/docs"),
        ("POST", f"/v1/orgs/{org}/bundles"),
    ):
        body = {"from_seq": 0, "include_pq_attestation": False} if method == "POST" else None
        answer = _answer(server, method, path, key, body)
        assert answer[0] == 200, path
        for name in ("cache-control", "x-content-type-options", "vary"):
            assert len(answer[1].get_all(name) or []) == 1, (path, name)


def _answer(
    server: Server, method: str, path: str, key: str, body: object
) -> tuple[int, HTTPMessage]:

    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    headers = {"x-api-key": key, "content-type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers
