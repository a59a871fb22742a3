"""Every list of the API is paged: each row is seen once, and none is left out."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from litestar.routes import HTTPRoute

from ledger.client import LedgerClient, routes
from server.app.features import FEATURES
from server.http.contract import CONTRACT
from tests.support.offices import event, office
from tests.support.routes import an_application
from tests.support.serving import Server

ROWS, LIMIT = 5, 2
PARTS = {
    "/v1/log/anchors/{size}": "the timestamps of one anchor, one for each authority",
    "/v1/orgs/{org}/entries/{record}/proof": "the hashes of one proof",
    "/v1/orgs/{org}/consistency": "the hashes of one proof",
    "/v1/log/consistency": "the hashes of one proof",
    "/audit/logs": "pages in QWED's form, by `before` and `next_before`, tried in tests/qwed",
    "/admin/security/events": "pages in QWED's form, tried in tests/threats",
    "/v1/orgs/{org}/threats": "the gravest hundred keys and addresses, a part of one summary",
    "/v1/log/keys": "one signed history, of which a part can't be verified",
}
"""Answers with a list that is a part of one thing, and bounded with it, or paged in another form."""


class Listed(typing.NamedTuple):
    """A list route: its path, the member with the rows, and what tells two rows apart."""

    path: str
    rows: str
    key: str


LISTS = [
    Listed("/v1/orgs", "orgs", "slug"),
    Listed("/v1/orgs/{org}/keys", "keys", "id"),
    Listed("/v1/orgs/{org}/entries", "entries", "seq"),
    Listed("/v1/orgs/{org}/checkpoints", "checkpoints", "size"),
    Listed("/v1/orgs/{org}/security-events", "events", "id"),
    Listed("/v1/log/anchors", "anchors", "size"),
    Listed("/v1/blocks", "blocks", "id"),
]


def answers() -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Path and type of the answer of each GET route."""
    for route in an_application(FEATURES).routes:
        assert isinstance(route, HTTPRoute)
        path = re.sub(r":\w+}", "}", route.path_format)
        for handler in route.route_handlers:
            if "GET" in handler.http_methods:
                yield from ((path, one) for one in _types(handler))


def _types(handler: Any) -> Iterator[type[msgspec.Struct]]:
    stated = handler.opt[CONTRACT].answers or {}
    forms = [form for answer in stated.values() for form in answer.values()]
    for one in [handler.parsed_fn_signature.return_type.annotation, *forms]:
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            yield one


def has_rows(answer: type[msgspec.Struct]) -> bool:
    fields = msgspec.structs.fields(answer)
    return any(typing.get_origin(field.type) is list for field in fields)


def test_every_answer_with_rows_is_a_page_that_is_tried_here() -> None:
    rows = {path: one for path, one in answers() if has_rows(one)}
    paged = {path for path, one in rows.items() if "next_cursor" in one.__struct_fields__}
    assert paged == {one.path for one in LISTS}
    assert rows.keys() - paged <= PARTS.keys()


def pages(get: Callable[[str], Any], path: str, limit: int) -> Iterator[Any]:
    cursor = ""
    for _ in range(1_000):
        page = get(f"{path}?limit={limit}{cursor}")
        yield page
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={page['next_cursor']}"
    raise AssertionError("the pages do not end")


@pytest.fixture(scope="module")
def filled(shared_server: Server) -> Server:
    """A server with five rows in each list: five signed batches, events, orgs, keys and blocks."""
    here = office(shared_server, count=1)
    for number in range(1, ROWS):
        here.append([event(number)])
        here.trees.sign()
        here.trees.anchor()
        shared_server.create_org()
        shared_server.create_key(here.org, "viewer")
    shared_server.org, shared_server.admin_key = (
        here.org,
        shared_server.create_key(here.org, "admin"),
    )
    for number in range(ROWS):
        asked = {"address": f"198.51.100.{number}", "reason": "a row of a list"}
        made = shared_server.request("POST", "/v1/blocks", asked, key=shared_server.platform_key)
        assert made.status in {200, 201}, made.body
    here.trees.execute(
        "INSERT INTO security_events (org_id, kind, detail) "
        "SELECT id, 'org_frozen', n::text FROM orgs, generate_series(1, 5) n WHERE slug = $1",
        here.org,
    )
    return shared_server


@pytest.mark.parametrize("listed", LISTS, ids=lambda one: one.path)
def test_each_row_is_seen_once(filled: Server, listed: Listed) -> None:
    path = listed.path.replace("{org}", filled.org)

    def get(path: str) -> Any:
        answer = filled.request("GET", path, key=filled.platform_key)
        assert answer.status == 200, answer.body
        return answer.json()

    seen = []
    for page in pages(get, path, LIMIT):
        assert len(page[listed.rows]) <= LIMIT
        seen += [row[listed.key] for row in page[listed.rows]]
    whole = [row[listed.key] for page in pages(get, path, 1_000) for row in page[listed.rows]]
    assert len(whole) >= ROWS
    assert seen == whole
    assert len(set(seen)) == len(seen)


def test_the_client_follows_the_pages(filled: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        routes, "query_of", lambda given: {**{k: v for k, v in given.items() if v}, "limit": "2"}
    )
    with LedgerClient(filled.url, filled.admin_key, filled.org) as client:
        assert len([one.id for one in client.security_events()]) >= ROWS
        assert len({one.id for one in client.keys()}) >= ROWS
        assert len({one.size for one in client.checkpoints()}) >= ROWS
