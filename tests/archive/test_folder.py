"""A folder target writes whole files or none, overwrites none, and reaches nothing outside itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.archive.targets import Target, open_target
from ledger.archive.targets.files import FolderFiles
from ledger.archive.targets.objects import checked_key
from ledger.errors import (
    ArchiveDenied,
    ArchiveError,
    ArchiveMisconfigured,
    ArchiveMismatch,
    ArchiveObjectMissing,
    ArchiveUnavailable,
)
from tests.support.waiting import PATIENCE_S

TILE = bytes(range(256)) * 32


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
async def target(root: Path) -> Target:
    opened = open_target(f"file://{root}")
    await opened.check()
    return opened


async def test_check_makes_the_folder_for_its_owner_only(target: Target, root: Path) -> None:
    assert root.stat().st_mode & 0o777 == 0o700
    assert not target.locked


async def test_a_stored_object_is_a_read_only_file_of_its_bytes(target: Target, root: Path) -> None:
    stored = await target.put("tile/0/x001/067.p/5", TILE)
    path = root / "tile/0/x001/067.p/5"
    assert path.read_bytes() == TILE
    assert path.stat().st_mode & 0o777 == 0o444
    assert (stored.sha256, stored.size) == (sha256(TILE).digest(), len(TILE))
    assert (stored.retain_until, stored.legal_hold, stored.version) == (None, False, "")
    assert await target.get("tile/0/x001/067.p/5", len(TILE)) == TILE
    assert list((root / ".incoming").iterdir()) == []


async def test_the_same_bytes_are_already_stored(target: Target, root: Path) -> None:
    first = await target.put("tile/0/000", TILE)
    before = (root / "tile/0/000").stat()
    assert await target.put("tile/0/000", TILE) == first
    assert (root / "tile/0/000").stat().st_ino == before.st_ino


async def test_other_bytes_are_an_error_with_both_digests(target: Target) -> None:
    await target.put("tile/0/000", TILE)
    with pytest.raises(ArchiveMismatch) as refused:
        await target.put("tile/0/000", b"other")
    assert sha256(TILE).hexdigest() in str(refused.value)
    assert sha256(b"other").hexdigest() in str(refused.value)
    assert await target.get("tile/0/000", len(TILE)) == TILE


async def test_a_flipped_bit_is_found_when_the_object_is_put_again(
    target: Target, root: Path
) -> None:
    await target.put("tile/0/000", TILE)
    (root / "tile/0/000").chmod(0o644)
    (root / "tile/0/000").write_bytes(bytes([TILE[0] ^ 1]) + TILE[1:])
    with pytest.raises(ArchiveMismatch):
        await target.put("tile/0/000", TILE)


async def test_a_pointer_moves_on_and_its_versions_remain(target: Target, root: Path) -> None:
    states = [b"size 1", b"size 2", b"size 1"]
    stored = [await target.put_pointer("acme/checkpoint", state) for state in states]
    assert [each.version for each in stored] == ["0000000001", "0000000002", "0000000003"]
    assert await target.put_pointer("acme/checkpoint", b"size 1") == stored[-1]
    versions = await target.versions("acme/checkpoint")
    assert versions == ("0000000003", "0000000002", "0000000001")
    kept = [await target.get("acme/checkpoint", 9, version) for version in reversed(versions)]
    assert kept == states
    assert (root / "acme/checkpoint").read_bytes() == b"size 1"
    assert [each.key async for each in target.list()] == ["acme/checkpoint"]


async def test_a_pointer_that_a_crash_left_behind_its_version_catches_up(
    target: Target, root: Path
) -> None:
    await target.put_pointer("checkpoint", b"size 1")
    version = root / ".versions/checkpoint/0000000002"
    version.write_bytes(b"size 2")
    stored = await target.put_pointer("checkpoint", b"size 2")
    assert stored.version == "0000000002"
    assert await target.get("checkpoint", 9) == b"size 2"
    assert version.stat().st_mode & 0o777 == 0o444


async def test_two_writers_of_one_key_leave_one_object(target: Target) -> None:
    results = await asyncio.gather(
        *(target.put("tile/0/000", bytes([n % 2]) * 100) for n in range(16)),
        return_exceptions=True,
    )
    kept = await target.get("tile/0/000", 100)
    for n, result in enumerate(results):
        if bytes([n % 2]) * 100 == kept:
            assert not isinstance(result, BaseException)
        else:
            assert isinstance(result, ArchiveMismatch)


async def test_writers_of_one_pointer_each_get_a_version(target: Target) -> None:
    await asyncio.gather(*(target.put_pointer("checkpoint", b"%d" % n) for n in range(8)))
    assert len(await target.versions("checkpoint")) == 8


async def test_a_writer_that_is_overtaken_writes_no_second_version(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = FolderFiles.create

    def overtaken(files: FolderFiles, key: str, data: bytes) -> None:
        create(files, key, data)
        if data == b"slow":
            create(files, ".versions/checkpoint/0000000002", b"fast")

    monkeypatch.setattr(FolderFiles, "create", overtaken)
    stored = await target.put_pointer("checkpoint", b"slow")
    assert stored.version == "0000000001"
    assert await target.versions("checkpoint") == ("0000000002", "0000000001")
    assert await target.get("checkpoint", 9) == b"fast"


async def test_get_is_bounded_and_reports_a_missing_object(target: Target) -> None:
    await target.put("tile/0/000", TILE)
    with pytest.raises(ArchiveMismatch, match="longer than the 8191 bytes"):
        await target.get("tile/0/000", len(TILE) - 1)
    with pytest.raises(ArchiveObjectMissing):
        await target.get("tile/0/001", 10)
    with pytest.raises(ArchiveObjectMissing):
        await target.get("tile/0/000", 10, "../../../etc/passwd")
    assert await target.head("tile/0/001") is None
    assert await target.versions("tile/0/001") == ()
    assert await target.versions("tile/0/000") == ("",)


async def test_listing_streams_in_the_order_of_object_storage(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.archive.targets.folder.LISTED_AT_ONCE", 3)
    keys = ["tile/0.b", "tile/0/000", "tile/0/001", "tile/0/x001/000", "tile/00", "top"]
    for key in reversed(keys):
        await target.put(key, b"12")
    assert [each.key async for each in target.list()] == keys == sorted(keys)
    assert [each.key async for each in target.list("tile/0/00")] == keys[1:3]
    assert [each.key async for each in target.list("tile/0/")] == keys[1:4]
    assert [each.key async for each in target.list("none")] == []


async def test_remains_of_a_killed_writer_are_not_listed_and_are_removed(
    target: Target, root: Path
) -> None:
    for name, age in (("old", 2 * 86_400), ("new", 0)):
        left = root / ".incoming" / name
        left.write_bytes(b"half")
        changed = left.stat().st_mtime - age
        os.utime(left, (changed, changed))
    assert [each async for each in target.list()] == []
    await target.check()
    assert [path.name for path in (root / ".incoming").iterdir()] == ["new"]


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../x", "a/../x", "a/./x", "a//b", "a/", ".versions/x", "a/.x", "a\0b",
     "a\\b", "a\nb", "ä", "x" * 701, "a/" * 300 + "a" * 200],
)  # fmt: skip
async def test_a_key_that_is_not_a_plain_path_is_refused(target: Target, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: target.put(key, b""),
        lambda: target.put_pointer(key, b""),
        lambda: target.get(key, 1),
        lambda: target.head(key),
    ]
    for call in calls:
        with pytest.raises(ArchiveMisconfigured, match="not a valid key"):
            await call()  # type: ignore[misc]


@given(st.text(max_size=40))
def test_no_accepted_key_leads_out_of_the_folder(key: str) -> None:
    try:
        checked_key(key)
    except ArchiveMisconfigured:
        return
    root = "/srv/archive"
    assert os.path.normpath(f"{root}/{key}") == f"{root}/{key}"


@pytest.mark.parametrize("key", ["out/x", "out"])
async def test_links_are_not_followed(target: Target, root: Path, key: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"secret")
    (root / "out").symlink_to(outside if key == "out/x" else outside / "x")
    with pytest.raises(ArchiveMismatch, match="not part of the archive"):
        await target.get(key, 100)
    with pytest.raises(ArchiveMismatch):
        await target.put(key, b"secret")
    assert [each async for each in target.list()] == []
    assert (outside / "x").read_bytes() == b"secret"


@pytest.mark.parametrize("existing", ["a", "a/b/c"])
async def test_a_file_where_a_folder_should_be_and_the_reverse(
    target: Target, existing: str
) -> None:
    await target.put(existing, b"")
    with pytest.raises(ArchiveMismatch, match="not part of the archive"):
        await target.put("a/b", b"x")
    with pytest.raises(ArchiveMismatch):
        await target.get("a/b", 10)


async def test_a_pipe_does_not_block(target: Target, root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(ArchiveMismatch):
        await asyncio.wait_for(target.get("pipe", 10), PATIENCE_S)


async def test_a_folder_that_vanished_is_unavailable_not_empty(target: Target, root: Path) -> None:
    root.rename(root.with_name("elsewhere"))
    with pytest.raises(ArchiveUnavailable, match="is it mounted"):
        await target.get("tile/0/000", 10)
    with pytest.raises(ArchiveUnavailable, match="is it mounted"):
        await target.head("tile/0/000")
    with pytest.raises(ArchiveUnavailable):
        await target.put("tile/0/000", b"")


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (28, ArchiveUnavailable),
        (5, ArchiveUnavailable),
        (13, ArchiveDenied),
        (30, ArchiveMisconfigured),
    ],
    ids=["full", "broken", "forbidden", "read-only"],
)
@pytest.mark.parametrize("call", ["fsync", "link", "fchmod", "mkdir"])
async def test_a_failing_disk_stores_nothing_and_leaves_no_half_object(
    target: Target,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    error: type[ArchiveError],
) -> None:
    """A double for the disk: a real one can't be made to fail at a chosen system call."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(error):
            await target.put("tile/0/000", TILE)
    assert not (root / "tile/0/000").exists()
    stored = await target.put("tile/0/000", TILE)
    assert stored.sha256 == sha256(TILE).digest()
    assert list((root / ".incoming").iterdir()) == []
