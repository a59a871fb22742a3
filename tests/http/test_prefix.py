"""Behind a proxy with a path prefix: no address in any answer is absolute."""

from __future__ import annotations

import json
import re
from urllib.parse import urljoin

import pytest

from server.app.application import description
from tests.support.raw_http import Line, head
from tests.support.serving import PeerAnswer, Server

PREFIX = "https://front.example/audit"
PAGES = ["/docs", "/verify"]


def get(server: Server, path: str) -> PeerAnswer:
    with Line(server) as line:
        line.send(head("GET", path, connection="close"))
        return line.answer()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_names_only_addresses_below_the_prefix(shared_server: Server, path: str) -> None:
    page = get(shared_server, path).body.decode()
    named = re.findall(r"""\b(?:src|href|action|data|poster)\s*=\s*["']?([^"'\s>]+)""", page)
    for address in named:
        if not address.startswith(("data:", "#", "http")):
            assert urljoin(PREFIX + path, address).startswith(PREFIX + "/"), address


def test_the_api_page_finds_all_it_needs_below_the_prefix(shared_server: Server) -> None:
    page = get(shared_server, "/docs").body.decode()
    script = get(shared_server, "/static/docs.js").body.decode()
    addresses = re.findall(r'(?:src|href)="((?!data:)[^"]+)"', page) + re.findall(
        r'url: "([^"]+)"', script
    )
    assert len(addresses) == 4
    for address in addresses:
        whole = urljoin(PREFIX + "/docs", address)
        assert whole.startswith(PREFIX + "/")
        assert get(shared_server, whole.removeprefix(PREFIX)).status == 200


def test_the_description_s_server_is_its_own_address() -> None:
    servers = json.loads(description())["servers"]
    assert [urljoin(PREFIX + "/openapi.json", one["url"]) for one in servers] == [PREFIX + "/"]


def test_the_root_links_to_the_other_pages(shared_server: Server) -> None:
    answer = get(shared_server, "/")
    assert answer.status == 404
    for word in re.findall(r"docs|readyz", answer.json()["detail"]):
        assert get(shared_server, f"/{word}").status == 200
    assert "docs" in answer.json()["detail"]
