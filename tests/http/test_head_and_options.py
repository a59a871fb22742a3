"""HEAD answers like GET without the body, on every route; OPTIONS and Allow name it."""

from __future__ import annotations

import http.client
import re
from urllib.parse import urlsplit

import pytest

from tests.support.clusters import blocking
from tests.support.offices import Office, office
from tests.support.raw_http import Line, head
from tests.support.routes import an_application, routes
from tests.support.serving import AS_OPERATOR, Server
from tests.support.waiting import until
from tests.support.watching import never_ending

GETS = sorted(path for method, path in routes(an_application()) if method == "GET")
VARYING = {"date", "retry-after", "content-length"}


@pytest.fixture(scope="module")
def here(shared_server: Server) -> Office:
    """A signed trail with a finished verification."""
    return office(shared_server, count=3)


def fill(here: Office, path: str) -> str:
    """A route's path, with an existing resource for each parameter."""
    log = "entries/000.p/3" if "orgs" in path else "entries/000.p/1"
    values = {
        "org": here.org,
        "record": here.records[0],
        "tile": log,
        "name": "docs.js",
        "size": "3",
    }
    if "anchors" in path:
        anchors = here.server.request("GET", "/v1/log/anchors").json()["anchors"]
        values["size"] = str(anchors[0]["size"])
    if "{job_id}" in path:
        jobs = f"/v1/orgs/{here.org}/verifications"
        values["job_id"] = here.server.request("POST", f"{jobs}?wait=30", {}, key=here.key).json()[
            "id"
        ]
    return re.sub(r"{(\w+)}", lambda match: values[match[1]], path)


def answered(here: Office, method: str, path: str, key: str | None) -> http.client.HTTPResponse:
    """Send a request; returns the answer with its raw headers, without following redirects."""
    address = urlsplit(here.server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    connection.request(method, path, headers={} if key is None else {"x-api-key": key})
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def same(got: http.client.HTTPResponse, headed: http.client.HTTPResponse) -> None:
    assert headed.status == got.status
    assert headed.body == b""  # type: ignore[attr-defined]
    for name in got.headers:
        if name.lower() == "transfer-encoding":
            continue  # RFC 9110, 9.3.2: fields that depend on generating the body may be missing
        assert headed.headers.get_all(name) is not None, name
        if name.lower() not in VARYING:
            assert headed.headers.get_all(name) == got.headers.get_all(name), name
    if "content-length" in got.headers:
        assert int(headed.headers["content-length"]) > 0 or got.headers["content-length"] == "0"


@pytest.mark.parametrize("path", GETS)
def test_every_get_answers_head(here: Office, path: str) -> None:
    filled = fill(here, path)
    for key in (here.server.platform_key, here.key, None):
        got, headed = answered(here, "GET", filled, key), answered(here, "HEAD", filled, key)
        same(got, headed)
        if path not in {"/metrics", "/readyz"} and "content-length" in got.headers:
            assert headed.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1/orgs/none/head", "/static/none", "/v1/log/tile/9/000"]
)
def test_head_of_a_missing_resource_is_404(here: Office, path: str) -> None:
    got, headed = answered(here, "GET", path, here.key), answered(here, "HEAD", path, here.key)
    assert got.status == 404
    same(got, headed)
    assert headed.headers["content-length"] == got.headers["content-length"]


def test_a_refusal_of_a_head_has_no_body(here: Office) -> None:
    with Line(here.server) as line:
        line.send(b"HEAD /livez?a=1&a=1 HTTP/1.1\r\nhost: x\r\n\r\n")
        received = line.read()
    assert received.startswith(b"HTTP/1.1 400")
    assert received.endswith(b"\r\n\r\n")


def test_a_connection_goes_on_after_a_head(here: Office) -> None:
    with Line(here.server) as line:
        line.send(head("HEAD", "/livez") * 3 + head("GET", "/livez", connection="close"))
        received = line.read()
    assert received.count(b"HTTP/1.1 200") == 4
    assert received.count(b'{"status":"ok"}') == 1


def test_head_of_events_does_not_watch(here: Office) -> None:
    server = here.server
    server.org = here.org
    job = blocking(never_ending(server))
    assert server._server is not None
    tasks = server._server.server_state.tasks
    answer = answered(here, "HEAD", f"/v1/orgs/{here.org}/verifications/{job}/events", here.key)
    assert (answer.status, answer.headers["content-type"]) == (
        200,
        "text/event-stream; charset=utf-8",
    )
    until(lambda: not tasks)


@pytest.mark.parametrize("path", sorted({path for _, path in routes(an_application())}))
def test_options_and_allow_name_each_route_s_methods(here: Office, path: str) -> None:
    methods = {method for method, one in routes(an_application()) if one == path}
    expected = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    filled = re.sub(r"{\w+}", "x", path)
    options = answered(here, "OPTIONS", filled, None)
    assert options.status == 204
    assert set(options.headers["allow"].split(", ")) == expected
    for method in {"GET", "HEAD", "PUT", "DELETE", "PATCH", "POST"} - expected:
        refused = answered(here, method, filled, here.key)
        assert refused.status == 405, method
        assert set(refused.headers["allow"].split(", ")) == expected
        body: bytes = refused.body  # type: ignore[attr-defined]
        assert (body == b"") == (method == "HEAD")
        assert not body or f"{method} is not supported here; use ".encode() in body


def test_options_of_the_server_are_answered(here: Office) -> None:
    with Line(here.server) as line:
        line.send(b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = line.answer()
    assert answer.status == 204
    assert {"GET", "HEAD", "OPTIONS", "POST"} <= set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize("path", GETS)
def test_a_content_type_says_each_parameter_once(here: Office, path: str) -> None:
    for key in (here.key, None):
        answer = answered(here, "GET", fill(here, path), key)
        types = answer.headers.get_all("content-type") or []
        assert len(types) == 1
        kind, *parameters = [part.strip() for part in types[0].split(";")]
        assert "/" in kind
        names = [parameter.partition("=")[0] for parameter in parameters]
        assert len(set(names)) == len(names)
        if kind.startswith("text/"):
            assert "charset=utf-8" in parameters
    assert here.server.request("GET", "/metrics", headers=AS_OPERATOR).headers["content-type"] == (
        "text/plain; version=1.0.0; charset=utf-8"
    )
