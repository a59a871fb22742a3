"""A path has one spelling: any other reaches no route, whatever a proxy in front lets pass."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from server.http.protocol.wellformed import flaw_of
from tests.support.raw_http import Line, head, parse
from tests.support.route_matrix import Case, cases
from tests.support.serving import Server

CASES = [case for case in cases() if case.method != "HEAD"]
THINGS = {"record": "rec_" + "0" * 32, "tile": "0/000", "name": "docs.js", "subject": "bob"}


def spellings(path: str) -> Iterator[str]:
    """Other spellings of a path that some proxy or framework takes for the same."""
    yield from (f"/{path}", f"//{path}", f"{path}/", f"{path}//", f"{path}/.", f"{path}/x/..")
    yield from (f"/.{path}", f"/x/..{path}", f"/../{path[1:]}", f"{path};", f"{path};a=b")
    yield from (
        f"/;{path}",
        f"\\{path[1:]}",
        path + "\\",
        f"{path}%2f",
        f"/%2e{path}",
        f"%2f{path[1:]}",
    )
    yield from (
        f"{path}/%2e",
        f"{path}/%2E%2e",
        f"{path}/.%2e",
        f"{path}%3b",
        f"{path}%00",
        f"{path}%5c",
    )
    yield from (f"{path}%0a", f"{path}%09", f"{path}%7f")
    for at in (found.start() for found in re.finditer("/", path[1:])):
        before, after = path[: at + 1], path[at + 2 :]
        yield from (f"{before}//{after}", f"{before}/./{after}", f"{before}/x/../{after}")
        yield from (f"{before}%2f{after}", f"{before}%2F{after}", f"{before}\\{after}")
        yield from (f"{before};x/{after}", f"{before}%5C{after}", f"{before}/%2e/{after}")
    for at in range(1, len(path)):
        if path[at] != "/":
            yield f"{path[:at]}%{ord(path[at]):02x}{path[at + 1 :]}"
            yield f"{path[:at]}%{ord(path[at]):02X}{path[at + 1 :]}"


def filled(case: Case, org: str) -> str:
    things = {**THINGS, "org": org}
    return re.sub(r"{(\w+)}", lambda name: things.get(name[1], "0" * 16), case.path)


def statuses(server: Server, requests: list[tuple[str, str]]) -> set[int]:
    found = set()
    for method, target in requests:
        with Line(server) as line:
            line.send(
                head(method, target, server.platform_key, connection="close", content_length="0")
            )
            found.add(parse(line.read(), body=False).status)
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_other_spelling_has_a_route(case: Case) -> None:
    """Refused on its head alone: no key is looked up, nothing is routed."""
    path = filled(case, "acme")
    headers = [(b"host", b"x")]
    assert flaw_of(case.method, "1.1", path.encode(), headers, dict(headers)) is None
    for spelling in spellings(path):
        for target in (spelling, f"{spelling}?", f"{spelling}?a=1"):
            flaw = flaw_of(case.method, "1.1", target.encode(), headers, dict(headers))
            if flaw is None:  # only in the name of a person, which its route reads itself
                assert re.match(r"/v1/orgs/acme/subjects/.", spelling), spelling
                assert "/" not in spelling.removeprefix("/v1/orgs/acme/subjects/"), spelling
            else:
                assert flaw.kind.status in {400, 404}, spelling


@pytest.mark.parametrize("case", CASES, ids=str)
def test_other_spellings_are_answered_with_404_or_400(shared_server: Server, case: Case) -> None:
    path = filled(case, shared_server.org)
    some = list(spellings(path))[:: max(1, len(list(spellings(path))) // 12)]
    assert statuses(shared_server, [(case.method, one) for one in some]) <= {400, 404}


def test_operators_paths_have_one_spelling(shared_server: Server) -> None:
    for target in (
        "//metrics",
        "/./metrics",
        "/metrics/",
        "/%6detrics",
        "/metrics;x",
        "/x/../readyz",
    ):
        assert statuses(
            shared_server, [("GET", target), ("HEAD", target), ("OPTIONS", target)]
        ) <= {
            400,
            404,
        }


@pytest.mark.parametrize(
    "name", ["bob", "ada@example.com", "user:123", "a.b-c_d~e", "k=v", "1,2", "ref:abc"]
)
def test_a_name_that_needs_percent_encoding_keeps_working(shared_server: Server, name: str) -> None:
    org, key = shared_server.create_org()
    path = f"/v1/orgs/{org}"
    for spelling in (name, quote(name, safe=""), "".join(f"%{ord(char):02X}" for char in name)):
        event = {"actor": name, "subject": name}
        assert shared_server.request("POST", f"{path}/entries", event, key=key).status == 201
        erased = shared_server.request("DELETE", f"{path}/subjects/{spelling}", key=key)
        assert (erased.status, erased.json()["subject"]) == (200, name)


def test_encodings_that_a_name_needs_reach_its_route() -> None:
    headers = [(b"host", b"x")]
    for name in (
        "a%20b",
        "%40",
        "%C3%A9",
        "%F0%9F%8D%83",
        "a%25b",
        "%3A",
        "%7B",
        "~-._!$&'()*+,=:@",
    ):
        target = f"/v1/orgs/acme/entries/{name}".encode()
        assert flaw_of("GET", "1.1", target, headers, dict(headers)) is None, name
    for name in ("%ff", "%c0%af", "%C3", "%ed%a0%80"):
        target = f"/v1/orgs/acme/entries/{name}".encode()
        assert flaw_of("GET", "1.1", target, headers, dict(headers)) is not None, name
