"""`/verify` serves the page of the bundles, with headers that forbid all other connections."""

from __future__ import annotations

import re

import pytest

from ledger.evidence.page import POLICY, verify_page
from tests.support.serving import Server

PAGE = verify_page().decode()


def test_it_is_the_page_of_the_bundles(shared_server: Server) -> None:
    answer = shared_server.request("GET", "/verify")
    assert (answer.status, answer.body) == (200, verify_page())
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_header_has_the_page_s_own_policy(shared_server: Server) -> None:
    policy = shared_server.request("GET", "/verify").headers["content-security-policy"]
    assert policy == f"{POLICY}; frame-ancestors 'none'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">' in PAGE
    assert POLICY.startswith("default-src 'none'; ")
    allowed = re.findall(r"(\S+)-src ([^;]+)", POLICY)
    assert allowed == [
        ("default", "'none'"),
        ("script", "'unsafe-inline'"),
        ("style", "'unsafe-inline'"),
    ]


def test_the_page_names_no_other_address() -> None:
    markup = re.sub(r"<code>.*?</code>", "", PAGE)  # the page's text mentions http:// and https://
    assert "://" not in markup
    assert not re.search(r"""["'(]//\w""", markup)
    assert not re.search(r"<(link|img|iframe|object|embed|base|form|a)\b", markup)
    assert not re.search(r"\bsrc\s*=|\bhref\s*=|url\(|@import", markup)


@pytest.mark.parametrize("way", [
    "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function",
    "DOMParser", "srcdoc", "fetch(", "XMLHttpRequest", "WebSocket", "EventSource", "sendBeacon",
    "localStorage", "sessionStorage", "indexedDB", "document.cookie", "import(", "window.open",
])  # fmt: skip
def test_the_page_can_neither_create_markup_nor_connect(way: str) -> None:
    assert way not in PAGE
