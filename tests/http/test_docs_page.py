"""The documentation page loads everything from the server itself."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

import pytest

from tests.support.serving import Server

ASSET = re.compile(r"""(?:src|href|url)\s*[=:]\s*"([^"]+)\"""")


@pytest.fixture(scope="module")
def page(shared_server: Server) -> str:
    answer = shared_server.request("GET", "/docs")
    assert answer.headers["content-type"].startswith("text/html")
    return answer.body.decode()


def test_the_page_names_no_other_host(page: str) -> None:
    assert "://" not in page
    assert not re.search(r"""["'(]//""", page)


def test_every_asset_of_the_page_is_served_here(shared_server: Server, page: str) -> None:
    assets = [url for url in ASSET.findall(page) if not url.startswith("data:")]
    assert len(assets) == 3
    for url in assets:
        assert not urlsplit(url).netloc
        assert not url.startswith("/"), "a proxy may serve the page under a prefix"
        answer = shared_server.request("GET", urljoin("/docs", url))
        assert (answer.status, bool(answer.body)) == (200, True), url
        if url.endswith(".css"):
            loaded = re.findall(rb"(?:url\(|@import)\s*[\"']?(?!data:)([^)\"'\s]+)", answer.body)
            assert not [name for name in loaded if b"//" in name or not name.startswith(b"#")]


def test_the_page_s_policy_forbids_all_other_connections(shared_server: Server) -> None:
    policy = shared_server.request("GET", "/docs").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert all("http" not in source for source in policy.split())


@pytest.mark.parametrize("path", [
    "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/%2fetc/passwd",
    "/static/swagger-ui/../../problems.py", "/static/%00", "/static", "/openapi/redoc",
    "/openapi/swagger", "/schema",
])  # fmt: skip
def test_nothing_else_is_served(shared_server: Server, path: str) -> None:
    answer = shared_server.request("GET", path)
    assert answer.status == 404, answer.body[:200]
