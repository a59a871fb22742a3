"""Saving evidence bundles leaves a complete file, or none."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from ledger.client import (
    AsyncLedgerClient,
    ConnectionLostError,
    LedgerClient,
    LedgerError,
    NotFoundError,
    NotYetSignedError,
    ProtocolError,
)
from ledger.client import bundles as saving
from ledger.evidence.verification import verify_bundle
from tests.client.injector import Fault, answer, injecting, problem
from tests.support.serving import Server
from tests.support.signed_trees import SignedTrees

KEY = "quire_live_test_secretsecretsecret"
BUNDLE = b"PK\x03\x04" + bytes(100_000) + b"PK\x05\x06" + bytes(18)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/zip\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
HALF = b"%x\r\n%s\r\n" % (50_000, BUNDLE[:50_000])


def sending(*parts: bytes) -> Fault:
    """Send these bytes as the answer, then cut the connection."""

    async def send(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return send


WHOLE = sending(CHUNKED, HALF, b"%x\r\n%s\r\n0\r\n\r\n" % (len(BUNDLE) - 50_000, BUNDLE[50_000:]))
BROKEN_OFF = sending(CHUNKED, HALF)
Save = Callable[[str, Path], Awaitable[Path]]


async def save_plainly(url: str, path: Path) -> Path:
    def save() -> Path:
        with LedgerClient(url, KEY, "demo", timeout=0.5, attempts=2) as ledger:
            return ledger.export_evidence_bundle(from_seq=0).save(path)

    return await asyncio.to_thread(save)


async def save_with_asyncio(url: str, path: Path) -> Path:
    async with AsyncLedgerClient(url, KEY, "demo", timeout=0.5, attempts=2) as ledger:
        return await (await ledger.export_evidence_bundle(from_seq=0)).save(path)


@pytest.fixture(params=[save_plainly, save_with_asyncio], ids=["plain", "asyncio"])
def save(request: pytest.FixtureRequest) -> Save:
    chosen: Save = request.param
    return chosen


def files(place: Path) -> list[str]:
    return [path.name for path in place.iterdir()]


async def test_a_bundle_is_saved_as_it_was_sent(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    path.write_bytes(b"the one before")
    async with injecting(WHOLE) as injector:
        assert await save(injector.url, path) == path
    assert path.read_bytes() == BUNDLE
    assert files(tmp_path) == ["evidence.zip"]
    assert injector.seen[0].line.startswith("POST /v1/orgs/demo/bundles ")


async def test_a_bundle_that_broke_off_is_asked_for_again(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    async with injecting(BROKEN_OFF, WHOLE) as injector:
        await save(injector.url, path)
    assert path.read_bytes() == BUNDLE
    assert files(tmp_path) == ["evidence.zip"]


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (BROKEN_OFF, ConnectionLostError, "broke before the answer was complete"),
        (sending(HEAD, b"\r\n", BUNDLE[:-30]), ProtocolError, "its end is missing"),
        (sending(HEAD, b"content-length: 0\r\n\r\n"), ProtocolError, "its end is missing"),
        (answer(200, b"<html>hello</html>", media="text/html"), ProtocolError, "text/html"),
        (answer(302, b"", "location: http://elsewhere.invalid/"), ProtocolError, "302"),
        (problem(404, "not-found"), NotFoundError, "404"),
        (problem(409, "not-yet-signed", "retry-after: 0"), NotYetSignedError, "409"),
        (problem(503, "unavailable", "retry-after: 0"), LedgerError, "503"),
    ],
    ids=["cut", "no end", "empty", "a page", "moved", "nothing", "unsigned", "busy"],
)
async def test_after_an_error_there_is_no_file(
    save: Save, tmp_path: Path, fault: bytes | Fault, error: type[LedgerError], words: str
) -> None:
    async with injecting(fault, fault) as injector:
        with pytest.raises(error, match=re.escape(words)):
            await save(injector.url, tmp_path / "evidence.zip")
    assert files(tmp_path) == []


async def test_a_full_disk_or_a_wrong_place_leaves_nothing(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with injecting(WHOLE, WHOLE, WHOLE) as injector:
        with pytest.raises(FileNotFoundError):
            await save(injector.url, tmp_path / "missing" / "evidence.zip")
        with pytest.raises(IsADirectoryError):
            await save(injector.url, tmp_path)
        full = OSError(28, "No space left on device")
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(full))
        with pytest.raises(OSError, match="No space left"):
            await save(injector.url, tmp_path / "evidence.zip")
    assert files(tmp_path) == []


async def test_more_than_any_bundle_is_not_taken(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "BUNDLE_BYTES_MAX", 50_000)
    async with injecting(WHOLE) as injector:
        with pytest.raises(ProtocolError, match="more bytes than a bundle"):
            await save(injector.url, tmp_path / "evidence.zip")
    assert files(tmp_path) == []


def test_an_unknown_option_is_refused() -> None:
    with LedgerClient("http://127.0.0.1:1", KEY, "demo") as ledger:
        unknown: Any = {"subjct": "bob"}
        with pytest.raises(TypeError, match="subjct"):
            ledger.export_evidence_bundle(**unknown)


async def test_both_clients_save_the_same_verified_bundle(server: Server, tmp_path: Path) -> None:
    def plainly() -> list[str]:
        with LedgerClient(server.url, server.admin_key) as ledger:
            receipts = ledger.append_many([{"subject": f"s{n % 2}", "n": n} for n in range(300)])
            trees = SignedTrees(server)
            trees.sign()
            trees.anchor()
            records = [receipt.record_id for receipt in receipts]
            ledger.export_evidence_bundle(record_ids=records[:3]).save(tmp_path / "a.zip")
            ledger.export_evidence_bundle(subject="s1").save(tmp_path / "filter.zip")
        return records

    records = await asyncio.to_thread(plainly)
    async with AsyncLedgerClient(server.url, server.admin_key) as ledger:
        bundle = await ledger.export_evidence_bundle(record_ids=records[:3])
        await bundle.save(tmp_path / "b.zip")
        with pytest.raises(NotFoundError):
            await (await ledger.export_evidence_bundle(from_seq=300)).save(tmp_path / "c.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert not (tmp_path / "c.zip").exists()
    for name, count in (("a.zip", 3), ("filter.zip", 150)):
        verdict = verify_bundle(BytesIO((tmp_path / name).read_bytes()))
        assert verdict.tree is True
        assert verdict.about["entries"] == count
