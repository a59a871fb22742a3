"""Requests to this machine pass no proxy; keys go to other machines by https only."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.client import AsyncLedgerClient, InvalidArgumentError, LedgerClient, ProtocolError
from ledger.surroundings import is_loopback, proxy_variable
from tests.cli.commands import run
from tests.support.proxy_trap import Trap, proxy_trap
from tests.support.serving import Server

KEY = "quire_live_0000000000000000_" + "0" * 48
LOOPBACK = [
    "127.0.0.1", "127.0.0.2", "127.255.255.254", "127.1", "127.0.1", "2130706433", "0x7f000001",
    "0x7f.1", "0177.0.0.1", "017700000001", "localhost", "LOCALHOST", "localhost.", "a.localhost", "a.b.LocalHost.",
    "::1", "[::1]", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:1", "[::ffff:127.1.2.3]", "::1%lo",
    "0.0.0.0", "0", "::",
]  # fmt: skip
ELSEWHERE = [
    "128.0.0.1", "126.255.255.255", "192.0.2.1", "10.0.0.1", "localhost.example", "notlocalhost", "localhost4",
    "127.0.0.1.example", "::2", "2001:db8::1", "::ffff:128.0.0.1", "2130706432.example", "example.com", "", "0x80000001",
    "64:ff9b::7f00:1", "::127.0.0.1", "127.0.0.1 x", "1270.0.0.1", "abcdef", "a", "dead.beef",
]  # fmt: skip


@pytest.fixture
def trap(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    """A proxy that the environment names for everything."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with proxy_trap() as trap:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, trap.url)
            monkeypatch.setenv(name.upper(), trap.url)
        yield trap


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_is_known_in_every_form(host: str, trap: Trap) -> None:
    assert is_loopback(host)
    if ":" not in host:
        assert proxy_variable(f"http://{host}:8080") is None


@pytest.mark.parametrize("host", ELSEWHERE)
def test_other_machines_are_not_this_one(host: str) -> None:
    assert not is_loopback(host)


def _hosts(server: Server) -> list[str]:
    port = server.url.rpartition(":")[2]
    return [
        f"http://{host}:{port}"
        for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "[::ffff:127.0.0.1]")
    ]


def test_no_client_uses_a_proxy_for_this_machine(shared_server: Server, trap: Trap) -> None:
    async def whoami(url: str) -> str:
        async with AsyncLedgerClient(url, shared_server.admin_key) as ledger:
            return (await ledger.whoami()).role

    for url in _hosts(shared_server):
        with LedgerClient(url, shared_server.admin_key) as ledger:
            assert ledger.whoami().role == "admin"
        assert asyncio.run(whoami(url)) == "admin"
    assert trap.seen == []


def test_no_command_shows_the_platform_key_to_a_proxy(
    shared_server: Server, trap: Trap, tmp_path: Path
) -> None:
    (tmp_path / "platform.key").write_text(shared_server.platform_key)
    proxies = {"http_proxy": trap.url, "HTTP_PROXY": trap.url, "all_proxy": trap.url}
    for url in _hosts(shared_server)[:3]:
        settings = {"QUIRE_URL": url, "QUIRE_DATA_DIR": str(tmp_path), "no_proxy": "", **proxies}
        done = run("orgs", "list", settings=settings)
        assert done.returncode == 0, done.stderr
    assert trap.seen == []


def test_the_platform_key_of_the_data_directory_goes_to_no_other_machine(
    trap: Trap, tmp_path: Path
) -> None:
    (tmp_path / "platform.key").write_text(KEY)
    for url in (
        "http://192.0.2.1",
        "https://192.0.2.1",
        "http://127.0.0.1.example.invalid",
        "http://localhost.invalid",
    ):
        for more in ((), ("--insecure-http",)):
            settings = {"QUIRE_DATA_DIR": str(tmp_path), "http_proxy": trap.url}
            done = run("orgs", "list", "--url", url, *more, settings=settings)
            assert done.returncode == 2, done.stdout
    assert trap.seen == []


@pytest.mark.parametrize("make", [LedgerClient, AsyncLedgerClient])
def test_plain_http_to_another_machine_must_be_asked_for(
    make: type[LedgerClient | AsyncLedgerClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QUIRE_INSECURE_HTTP", raising=False)
    for url in ("http://192.0.2.1", "http://ledger.example:8080", "http://[2001:db8::1]"):
        with pytest.raises(InvalidArgumentError, match="plain http would show the API key"):
            make(url, KEY)
        make(url, KEY, insecure_http=True)
        monkeypatch.setenv("QUIRE_INSECURE_HTTP", "true")
        make(url, KEY)
        with pytest.raises(InvalidArgumentError):
            make(url, KEY, insecure_http=False)
        monkeypatch.delenv("QUIRE_INSECURE_HTTP")
    for url in (
        "https://ledger.example",
        "http://127.0.0.1:1",
        "http://localhost",
        "http://[::1]:8",
    ):
        make(url, KEY)


@pytest.mark.parametrize("value", ["false", "0", "no", "", "maybe"])
def test_only_a_true_value_allows_plain_http(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_INSECURE_HTTP", value)
    with pytest.raises(InvalidArgumentError):
        LedgerClient("http://192.0.2.1", KEY)


def test_a_command_needs_the_flag_too(trap: Trap) -> None:
    settings = {"QUIRE_API_KEY": KEY, "QUIRE_URL": "http://192.0.2.1", "http_proxy": trap.url}
    refused = run("orgs", "list", settings=settings)
    assert refused.returncode == 2
    assert b"--insecure-http" in refused.stderr
    assert trap.seen == []
    run("orgs", "list", "--insecure-http", settings={**settings, "no_proxy": ""})
    assert trap.seen  # other machines are reached by the proxy of the environment
    assert KEY.encode() not in refused.stderr


def test_a_redirect_carries_the_key_nowhere(trap: Trap, monkeypatch: pytest.MonkeyPatch) -> None:
    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(307)
            self.send_header("location", f"{trap.url}/v1/whoami")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with (
            LedgerClient(f"http://127.0.0.1:{server.server_port}", KEY) as ledger,
            pytest.raises(ProtocolError, match="redirects are not followed"),
        ):
            ledger.whoami()
    finally:
        server.shutdown()
    assert trap.seen == []
