"""Unusable environment variables and addresses, and the clients' errors about them."""

import asyncio
import errno
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger.client import (
    AsyncLedgerClient,
    ConnectFailedError,
    InvalidArgumentError,
    LedgerClient,
    LedgerError,
)
from tests.client.injector import answer, injecting
from tests.support.serving import Server

KEY = "quire_live_test_secretsecretsecret"
PASSWORD = "pass-word-of-a-proxy"
CLIENTS = [LedgerClient, AsyncLedgerClient]


def whoami(make: Callable[..., Any], url: str | None = None) -> Any:
    """Call `whoami` of a client of either kind, and close the client."""

    async def ask() -> Any:
        async with AsyncLedgerClient(url, KEY, attempts=1, timeout=60) as ledger:
            return await ledger.whoami()

    if make is AsyncLedgerClient:
        return asyncio.run(ask())
    with LedgerClient(url, KEY, attempts=1, timeout=60) as ledger:
        return ledger.whoami()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_INSECURE_HTTP", "true")
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("make", CLIENTS)
def test_the_address_comes_from_the_environment_or_is_this_machine(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIRE_URL", "http://ledger.example:1/audit/")
    assert "'http://ledger.example:1/audit'" in repr(make(api_key=KEY))
    assert "'http://other.example'" in repr(make("http://other.example", KEY))
    monkeypatch.setenv("QUIRE_URL", "")
    assert "'http://127.0.0.1:8080'" in repr(make(api_key=KEY))
    monkeypatch.delenv("QUIRE_URL")
    assert "'http://127.0.0.1:8080'" in repr(make(api_key=KEY))


def test_a_client_made_with_a_key_alone_works(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIRE_URL", shared_server.url)
    with LedgerClient(api_key=shared_server.admin_key) as ledger:
        assert ledger.whoami().org == shared_server.org

    async def org() -> str | None:
        async with AsyncLedgerClient(api_key=shared_server.admin_key) as ledger:
            return (await ledger.whoami()).org

    assert asyncio.run(org()) == shared_server.org


@pytest.mark.parametrize("make", CLIENTS)
@pytest.mark.parametrize(
    "key", [None, "", " ", "clé", "a\nb", "a\r\nx: y", "a b", "\udcff", "\x00"]
)
def test_an_invalid_key_is_refused_and_not_shown(make: Callable[..., Any], key: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="API key") as caught:
        make("http://127.0.0.1:9", key)
    assert not key or not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize("make", CLIENTS)
@pytest.mark.parametrize("from_environment", [False, True])
@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080",
        "localhost",
        "http://",
        "http:///path",
        "http://.invalid",
        "http://a..b",
        f"http://{'a' * 70}.example",
        f"http://{'a.' * 200}",
        "http://ex\udcffample",
        "http://127.0.0.1/\udcff",
        "http://[::1",
        "http://☃.☃",
        "http://exa mple",
        "http://%00",
        "http://host:99999",
        "http://host:0",
        "http://host:-1",
        "http://user:secret@host",
        "http://host\nx: y",
        "http://host/?q",
        "socks5://host",
        f"http://host/{'a' * 70_000}",
    ],
    ids=lambda url: ascii(url[:40]),
)
def test_an_invalid_address_is_refused(
    make: Callable[..., Any], url: str, from_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if from_environment:
        monkeypatch.setenv("QUIRE_URL", url)
    with pytest.raises(InvalidArgumentError, match="URL") as caught:
        make(None if from_environment else url, KEY)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("make", CLIENTS)
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", f"socks5://user:{PASSWORD}@127.0.0.1:9"),
        ("all_proxy", "socks4://127.0.0.1:9"),
        ("http_proxy", "notaurl://"),
        ("HTTP_PROXY", f"ftp://user:{PASSWORD}@127.0.0.1:9"),
        ("https_proxy", "http://\udcff"),
        ("http_proxy", "http://[::1"),
        ("http_proxy", "http://host:port"),
    ],
)
def test_an_invalid_proxy_is_named_by_its_variable(
    make: Callable[..., Any], variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidArgumentError, match=f"the proxy that {variable} names") as caught:
        make("http://ledger.example", KEY)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("make", CLIENTS)
def test_an_unreachable_proxy_is_named(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://user:{PASSWORD}@127.0.0.1:{port}")
        with pytest.raises(ConnectFailedError, match="through the proxy that http_proxy") as caught:
            whoami(make, "http://192.0.2.1")
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("make", CLIENTS)
def test_a_proxy_whose_host_can_t_exist_is_named(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://.invalid:8")
    with pytest.raises(LedgerError, match="through the proxy that http_proxy names"):
        whoami(make, "http://192.0.2.1")


async def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with injecting(answer(403, b"<html>no</html>", media="text/html")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(LedgerError, match="the proxy that http_proxy names may") as caught:
            await asyncio.to_thread(whoami, LedgerClient, "http://192.0.2.1")
    assert "http_proxy" in str(pickle.loads(pickle.dumps(caught.value)))


async def test_a_proxy_that_opens_no_tunnel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with injecting(answer(403, b"no")) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(ConnectFailedError, match="the proxy that https_proxy names"):
            await asyncio.to_thread(whoami, LedgerClient, "https://192.0.2.1")


@pytest.mark.parametrize(
    "value", ["http://[::", "[::", ",,*.x,[::1", "\udcff", "a b", "http://h:x"]
)
@pytest.mark.parametrize("make", CLIENTS)
def test_invalid_no_proxy_exceptions_raise_the_client_s_errors(
    make: Callable[..., Any], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", value)
    with pytest.raises(LedgerError):
        whoami(make, "http://192.0.2.1")


@pytest.mark.parametrize("make", CLIENTS)
@pytest.mark.parametrize(
    ("variable", "kind", "reason"),
    [
        ("SSL_CERT_FILE", "missing", errno.ENOENT),
        ("SSL_CERT_FILE", "directory", errno.EISDIR),
        ("SSL_CERT_FILE", "no certificates", None),
        ("SSLKEYLOGFILE", "directory", None),
    ],
)
def test_certificates_that_can_t_be_loaded_name_variable_and_file(
    make: Callable[..., Any],
    variable: str,
    kind: str,
    reason: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / "none"
    if kind == "directory":
        place.mkdir()
    if kind == "no certificates":
        place.write_text("no PEM")
    monkeypatch.setenv(variable, str(place))
    with pytest.raises(InvalidArgumentError, match=variable) as caught:
        make("https://ledger.example", KEY)
    assert str(place) in str(caught.value)
    assert reason is None or errno.errorcode[reason] in {"ENOENT", "EISDIR"}


@pytest.mark.parametrize("make", CLIENTS)
@pytest.mark.parametrize(
    "call",
    [
        lambda ledger: ledger.entries(actor="Ren\udce9"),
        lambda ledger: ledger.erase_subject("Ren\udce9"),
        lambda ledger: ledger.create_org("x", "Ren\udce9"),
        lambda ledger: ledger.create_org("\udce9"),
        lambda ledger: ledger.update_org(name="Ren\udce9"),
        lambda ledger: ledger.thaw("\ud800"),
        lambda ledger: ledger.create_key("Ren\udce9", "admin"),
        lambda ledger: ledger.revoke_key("\udce9"),
        lambda ledger: ledger.get("\udce9"),
        lambda ledger: ledger.verify_entry("\udce9"),
        lambda ledger: ledger.append({"actor": "Ren\udce9"}),
        lambda ledger: ledger.append({"Ren\udce9": 1}),
        lambda ledger: ledger.append({}, idempotency_key="\udce9"),
        lambda ledger: ledger.export_evidence_bundle(actor="Ren\udce9"),
        lambda ledger: ledger.export_evidence_bundle(record_ids=["\udce9"]),
        lambda ledger: ledger.org(org="\udce9"),
    ],
)
def test_invalid_unicode_is_refused_before_anything_is_sent(
    make: Callable[..., Any], call: Callable[[Any], Any]
) -> None:
    ledger = make("http://127.0.0.1:9", KEY, "demo", attempts=1)

    async def run() -> None:
        result = call(ledger)
        if hasattr(result, "__anext__"):
            await anext(result)
        elif hasattr(result, "__await__"):
            await result

    def run_plain() -> None:
        result = call(ledger)
        if hasattr(result, "__next__"):
            next(result)

    with pytest.raises(InvalidArgumentError):
        asyncio.run(run()) if make is AsyncLedgerClient else run_plain()


@pytest.mark.parametrize(
    "unsafe",
    [
        "../subjects/bob",
        "a/b",
        "a%2Fb",
        "a?b",
        "a#b",
        "a;b",
        "a b",
        "a\\b",
        "ü",
        ".",
        "..",
        "",
        "\n",
    ],
)
def test_a_slug_or_id_that_a_proxy_could_change_is_not_sent(unsafe: str) -> None:
    with LedgerClient("http://127.0.0.1:9", KEY, "demo", attempts=1) as ledger:
        for call in (
            lambda: ledger.revoke_key(unsafe),
            lambda: ledger.erase_subject("bob", org=unsafe),
            lambda: ledger.update_org(name="x", org=unsafe),
            lambda: ledger.get(unsafe),
            lambda: ledger.verify_entry(unsafe),
        ):
            with pytest.raises(InvalidArgumentError, match="can't be an org or an id"):
                call()


@pytest.mark.parametrize("make", CLIENTS)
async def test_an_answer_that_names_another_person_is_an_error(make: Callable[..., Any]) -> None:
    other = answer(200, b'{"subject":"carol","erased":true,"record_id":"rec_1"}')

    async def erase(url: str) -> None:
        if make is LedgerClient:
            with LedgerClient(url, KEY, "demo") as plain:
                await asyncio.to_thread(plain.erase_subject, "team/../carol")
        else:
            async with AsyncLedgerClient(url, KEY, "demo") as ledger:
                await ledger.erase_subject("team/../carol")

    async with injecting(other) as injector:
        with pytest.raises(LedgerError, match=r"'team/\.\./carol' was to be erased .* 'carol' is"):
            await erase(injector.url)
    (seen,) = injector.seen
    assert seen.body == b'{"subject":"team/../carol"}'
    assert seen.line == "POST /v1/orgs/demo/erasures HTTP/1.1"


@pytest.mark.parametrize("make", CLIENTS)
async def test_the_other_name_of_the_anchor_is_taken(
    make: Callable[..., Any], tmp_path: Path
) -> None:
    def save(url: str, **asked: Any) -> None:
        with LedgerClient(url, KEY, "demo") as ledger:
            ledger.export_evidence_bundle(from_seq=0, **asked).save(tmp_path / "x.zip")

    async def ask(url: str, **asked: Any) -> None:
        if make is LedgerClient:
            await asyncio.to_thread(save, url, **asked)
            return
        async with AsyncLedgerClient(url, KEY, "demo") as ledger:
            await (await ledger.export_evidence_bundle(from_seq=0, **asked)).save(tmp_path / "x")

    for wanted in (True, False):
        async with injecting(answer(404, b"{}")) as injector:
            with pytest.raises(LedgerError):
                await ask(injector.url, include_quantum_attestation=wanted)
        (seen,) = injector.seen
        sent = f'{{"from_seq":0,"include_pq_attestation":{str(wanted).lower()}}}'
        assert seen.body == sent.encode()
    with pytest.raises(InvalidArgumentError, match="one of them"):
        await ask(
            "http://127.0.0.1:9", include_quantum_attestation=True, include_pq_attestation=False
        )
