"""Request heads that can be parsed in several ways are refused on every route."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from tests.support.raw_http import Line, parse
from tests.support.serving import PeerAnswer, Server


@pytest.fixture(scope="module")
def server(shared_server: Server) -> Server:
    """The shared server with a plain org."""
    shared_server.org, shared_server.admin_key = shared_server.create_org("plain")
    return shared_server


@pytest.fixture(autouse=True)
def nothing_appended(server: Server) -> Iterator[None]:
    """Check that the refused requests of a test append nothing and cause no internal error."""
    before, errors = count(server), server.internal_errors()
    yield
    assert count(server) == before
    assert server.internal_errors() == errors


def count(server: Server) -> int:
    answer = server.request("GET", f"/v1/orgs/{server.org}/head", key=server.admin_key)
    return int(answer.json()["seq"]) + 1


def answered(server: Server, request: bytes) -> PeerAnswer:
    """Send raw bytes; returns the answer, after which the connection must close."""
    with Line(server) as line:
        line.send(request)
        return line.answer()


def append(server: Server, headers: str, body: str = "", version: str = "1.1") -> bytes:
    return (
        f"POST /v1/orgs/{server.org}/entries HTTP/{version}\r\nhost: test\r\n"
        f"x-api-key: {server.admin_key}\r\n{headers}\r\n{body}"
    ).encode("latin-1")


def problem_of(answer: PeerAnswer) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status
    return answer.status, str(problem["type"]).rpartition("/")[2]


CHUNKED = "2\r\n{}\r\n0\r\n\r\n"


@pytest.mark.parametrize("coding", [
    "gzip, chunked", "deflate,chunked", "chunked, chunked", "chunked, gzip", "gzip", "identity", "x", "", ",",
    "chunked;q=1", '"chunked"', "chunked,", ",chunked", "xchunked", "chunked x", "\tgzip\t,\tchunked", "Gzip, Chunked",
    "gzip\r\ntransfer-encoding: chunked", "chunked\r\ntransfer-encoding: chunked",
    "chunked\r\ntransfer-encoding: gzip", "identity\r\ntransfer-encoding: chunked",
    "chunked\r\ncontent-length: 2", "gzip, chunked\r\ncontent-length: 2",
])  # fmt: skip
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_transfer_coding_other_than_chunked_is_refused(
    server: Server, coding: str, version: str
) -> None:
    answer = answered(server, append(server, f"transfer-encoding: {coding}\r\n", CHUNKED, version))
    status, _ = problem_of(answer)
    assert status in ({400, 501} if version == "1.1" else {400})


def test_an_unknown_transfer_coding_is_named(server: Server) -> None:
    answer = answered(server, append(server, "transfer-encoding: gzip, chunked\r\n", CHUNKED))
    assert problem_of(answer) == (501, "not-implemented")
    assert "gzip, chunked" in answer.json()["detail"]
    old = answered(server, append(server, "transfer-encoding: chunked\r\n", CHUNKED, "1.0"))
    assert problem_of(old) == (400, "invalid-request")
    assert "HTTP/1.0" in old.json()["detail"]


@pytest.mark.parametrize("length", [
    "2\r\ncontent-length: 3", "2\r\ncontent-length: 2", "2, 2", "2,3", "+2", "-2", "0x2", "2 2", "", "2.0", "٢",
    "99999999999999999999999999",
])  # fmt: skip
def test_a_length_that_is_not_one_number_is_refused(server: Server, length: str) -> None:
    request = (
        append(server, "").removesuffix(b"\r\n") + f"content-length: {length}\r\n\r\n{{}}".encode()
    )
    assert problem_of(answered(server, request)) == (400, "invalid-request")


@pytest.mark.parametrize("host", [
    None, "a\r\nhost: b", "a\r\nHost: a", "a b", "a/b", "a?b", "a#b", "u@a", "a\\b", "\xe9", "a,b/",
])  # fmt: skip
@pytest.mark.parametrize(
    "route", ["GET /livez", "GET /v1/log/checkpoint", "POST /v1/orgs/x/entries"]
)
def test_a_request_has_one_host(server: Server, route: str, host: str | None) -> None:
    line = "" if host is None else f"host: {host}\r\n"
    answer = answered(
        server, f"{route} HTTP/1.1\r\n{line}content-length: 0\r\n\r\n".encode("latin-1")
    )
    assert problem_of(answer) == (400, "invalid-request")
    assert "ost" in answer.json()["detail"]


@pytest.mark.parametrize(
    "host", ["", "a", "a.b:80", "[::1]:8080", "xn--e1afmkfd", "127.0.0.1", "a_b"]
)
def test_usual_hosts_are_accepted(server: Server, host: str) -> None:
    request = f"GET /livez HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    assert answered(server, request.encode()).status == 200


@pytest.mark.parametrize("request_line", [
    b"GET http://test/livez HTTP/1.1", b"GET HTTP://other:80/livez?x=1 HTTP/1.1", b"OPTIONS http://test/livez HTTP/1.1",
])  # fmt: skip
def test_the_absolute_form_is_accepted(server: Server, request_line: bytes) -> None:
    answer = answered(server, request_line + b"\r\nhost: test\r\nconnection: close\r\n\r\n")
    assert answer.status in {200, 204}


def test_an_absolute_form_without_a_path_is_the_root(server: Server) -> None:
    root = answered(server, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    for target in (b"http://test", b"http://test?", b"https://test:443/"):
        answer = answered(
            server, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        assert answer.status == root.status


@pytest.mark.parametrize("target", [
    b"*", b"livez", b"h:80", b"http:///livez", b"http://u:p@h/livez", b"ftp://h/livez", b"/livez#x", b"/livez?a#b",
    b"http://h/livez#x", b"/livez?a=\xff", b"/liv\xe9z", b"/livez?%", b"/livez?%zz", b"/livez?a=%f", b"/%zz", b"/%",
    b"/v1/orgs/%", b"/livez?%ff=1", b"/livez?a=%ff", b"/livez?a=1&a=1", b"/livez?a=1&%61=2", b"/livez?a&a",
    b"/livez?a=%00", b"/livez?a%0a=1", b"/livez?a=%ED%A0%80", b"/livez?a=%C0%AF", b"/livez?a=%7F", b"/livez?=1&=2",
])  # fmt: skip
def test_a_target_that_can_be_read_in_two_ways_is_refused(server: Server, target: bytes) -> None:
    answer = answered(server, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    assert problem_of(answer) == (400, "invalid-request")


@pytest.mark.parametrize("request_bytes", [
    b"GET /livez HTTP/1.1\nhost: x\n\n", b"GET /livez HTTP/1.1\r\nhost: x\n\r\n", b"GET /livez HTTP/1.1\rhost: x\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nhost: x\r\nx-a: b\r\n c\r\n\r\n", b"GET /livez HTTP/1.1\r\nhost : x\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nhost: x\r\nx-a\t: b\r\n\r\n", b"GET /livez HTTP/1.1\r\n host: x\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nhost: x\r\n: b\r\n\r\n", b"GET /livez HTTP/1.1\r\nhost: x\r\nx-a: \x00\r\n\r\n",
    b"GET /livez HTTP/1.2\r\nhost: x\r\n\r\n", b"GET /livez http/1.1\r\nhost: x\r\n\r\n", b"GET /livez HTTP/1.1 \r\nhost: x\r\n\r\n",
])  # fmt: skip
def test_ambiguous_line_endings_are_refused(server: Server, request_bytes: bytes) -> None:
    answer = answered(server, request_bytes)
    assert problem_of(answer) == (400, "invalid-request")
    assert answer.json()["detail"].startswith("this is not an HTTP/1.1 request: ")


@pytest.mark.parametrize("line", [b"GET /livez HTTP/2.0", b"GET /livez HTTP/0.9", b"GET /livez"])
def test_other_versions_of_http_are_not_supported(server: Server, line: bytes) -> None:
    answer = answered(
        server, line + b"\r\nhost: x\r\n\r\n" if b"HTTP" in line else line + b"\r\n\r\n"
    )
    assert problem_of(answer) == (505, "version-not-supported")


@pytest.mark.parametrize("chunks", [
    "+2\r\n{}\r\n0\r\n\r\n", "0x2\r\n{}\r\n0\r\n\r\n", "2\n{}\n0\n\n", "2 \r\n{}\r\n0\r\n\r\n", " 2\r\n{}\r\n0\r\n\r\n",
    "-1\r\n{}\r\n0\r\n\r\n", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n", "2\r\n{}x\r\n0\r\n\r\n", "2\r\n{}0\r\n\r\n",
])  # fmt: skip
def test_malformed_chunks_append_nothing(server: Server, chunks: str) -> None:
    request = append(server, "transfer-encoding: chunked\r\n", chunks)
    assert problem_of(answered(server, request)) == (400, "invalid-request")


@pytest.mark.parametrize("expectation", ["something", "100-continue, x", "200-ok"])
def test_an_expectation_that_can_t_be_met_is_refused(server: Server, expectation: str) -> None:
    request = append(server, f"expect: {expectation}\r\ncontent-length: 2\r\n", "{}")
    assert problem_of(answered(server, request)) == (417, "expectation-failed")


HEADERS_ONCE = [
    "authorization",
    "content-type",
    "content-encoding",
    "expect",
    "idempotency-key",
    "x-api-key",
]


@pytest.mark.parametrize("name", HEADERS_ONCE)
@pytest.mark.parametrize("same", [True, False])
def test_a_duplicate_of_a_single_header_is_refused(server: Server, name: str, same: bool) -> None:
    headers = f"{name}: a\r\n{name.title()}: {'a' if same else 'b'}\r\ncontent-length: 2\r\n"
    if name == "x-api-key":
        headers = f"x-api-key: {server.admin_key if same else 'b'}\r\ncontent-length: 2\r\n"
    answer = answered(server, append(server, headers, "{}"))
    assert problem_of(answer) == (400, "invalid-request")
    assert name in answer.json()["detail"]


@pytest.mark.parametrize(
    "charset", ["iso-8859-1", "Latin1", '"utf-16"', "utf-16le; x=1", "windows-1252", "", "x"]
)
def test_a_body_in_another_charset_is_refused(server: Server, charset: str) -> None:
    headers = f"content-type: application/json; charset={charset}\r\ncontent-length: 2\r\n"
    answer = answered(server, append(server, headers, "{}"))
    assert problem_of(answer) == (415, "unsupported-media-type")
    assert "UTF-8" in answer.json()["detail"]


def test_two_key_headers_must_agree(server: Server) -> None:
    viewer = server.create_key(server.org, "viewer")
    path = f"/v1/orgs/{server.org}/head"
    for bearer, status in ((server.admin_key, 200), (viewer, 400)):
        answer = server.request(
            "GET", path, key=server.admin_key, headers={"authorization": f"Bearer {bearer}"}
        )
        assert answer.status == status
    basic = {"authorization": "Basic dTpw"}  # added by a proxy in front
    assert server.request("GET", path, key=server.admin_key, headers=basic).status == 200


UPGRADES = ["h2c", "websocket", "TLS/1.2"]
LAST = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize("cut", [0, 1, 40, 100_000], ids="cut after {}".format)
@pytest.mark.parametrize("protocol", UPGRADES)
def test_an_upgrade_is_ignored(server: Server, protocol: str, cut: int) -> None:
    upgrade = f"connection: upgrade\r\nupgrade: {protocol}\r\n"
    get = f"GET /livez HTTP/1.1\r\nhost: x\r\n{upgrade}\r\n".encode()
    no_event = "GET /v1/whoami HTTP/1.1\r\nhost: x\r\n\r\n"
    lengthy = append(server, f"{upgrade}content-length: {len(no_event)}\r\n", no_event)
    chunks = f"{len(no_event):x}\r\n{no_event}\r\n0\r\n\r\n"
    chunked = append(server, f"{upgrade}transfer-encoding: chunked\r\n", chunks)
    sent = get + get + lengthy + chunked + get + LAST
    with Line(server) as line:
        for start in range(0, len(sent), cut or len(sent)):
            line.send(sent[start : start + (cut or len(sent))])
        received = line.read()
    statuses = re.findall(rb"HTTP/1.1 (\d+)", received)
    assert statuses == [b"200", b"200", b"400", b"400", b"200", b"200"]
    assert received.count(b"the body must be a JSON object") == 2


def test_a_body_behind_an_upgrade_is_read(shared_server: Server) -> None:
    org, key = shared_server.create_org()
    for coding, body in (("content-length: 2", "{}"), ("transfer-encoding: chunked", CHUNKED)):
        request = (
            f"POST /v1/orgs/{org}/entries HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n{coding}\r\n"
            f"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: x\r\n\r\n{body}"
        ).encode()
        for wait_s in (0, 0.2):
            with Line(shared_server) as line:
                line.send(request[: -len(body)])
                time.sleep(wait_s)
                line.send(request[-len(body) :])
                assert line.next_answer().status == 201


def test_trailers_are_no_headers(server: Server) -> None:
    request = (
        f"POST /v1/orgs/{server.org}/entries HTTP/1.1\r\nhost: test\r\nconnection: close\r\n"
        f"transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nx-api-key: {server.admin_key}\r\n\r\n"
    )
    assert answered(server, request.encode()).status == 401


def test_a_refusal_waits_for_its_turn_and_ends_the_connection(server: Server) -> None:
    good = (
        b"GET /v1/whoami HTTP/1.1\r\nhost: x\r\nx-api-key: "
        + server.admin_key.encode()
        + b"\r\n\r\n"
    )
    bad = b"GET /livez?a=1&a=2 HTTP/1.1\r\nhost: x\r\n\r\n"
    with Line(server) as line:
        line.send(good * 3 + bad + good)
        received = line.read()
    assert received.count(b"HTTP/1.1 200") == 3
    last = parse(received[received.rindex(b"HTTP/1.1 ") :])
    assert problem_of(last) == (400, "invalid-request")
    assert last.headers["connection"] == "close"


@pytest.mark.parametrize("query", [
    "actor=%ff", "actor=Ren%E9", "actor=n&actor=x", "since=2026-01-01&since=2026-01-02", "limit=1&limit=2", "actor=a%00",
    "order=asc&order=asc", "cursor=%zz", "actor=%", "actor=n&%61ctor=x", "event_type=%80", "actor=a#subject=b",
])  # fmt: skip
def test_an_unreadable_filter_is_refused(server: Server, query: str) -> None:
    answer = answered(
        server,
        f"GET /v1/orgs/{server.org}/entries?{query} HTTP/1.1\r\nhost: x\r\n"
        f"x-api-key: {server.admin_key}\r\n\r\n".encode(),
    )
    assert problem_of(answer) == (400, "invalid-request")
