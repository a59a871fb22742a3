"""Object storage with Object Lock: archived objects can't be deleted or changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from ledger.archive.targets import Target, open_target
from ledger.errors import ArchiveMisconfigured, ArchiveMismatch, ArchiveObjectMissing
from tests.support.object_storage import ObjectStorage

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

pytestmark = pytest.mark.xdist_group("object_storage")

TILE = bytes(range(256)) * 32


def in_days(days: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


@pytest.fixture
async def target(s3_environ: ObjectStorage, bucket: str) -> AsyncIterator[Target]:
    async with open_target(f"s3://{bucket}/acme", s3_environ.settings) as opened:
        yield opened


async def test_check_passes_on_a_bucket_that_locks(target: Target) -> None:
    await target.check()
    assert target.locked


async def test_a_stored_object_is_read_back_with_version_retention_hold_and_digest(
    target: Target, s3: S3Client, bucket: str
) -> None:
    until = in_days(1)
    stored = await target.put("tile/0/000", TILE, until, legal_hold=True)
    assert stored.sha256 == sha256(TILE).digest()
    assert (stored.size, stored.retain_until, stored.legal_hold) == (len(TILE), until, True)
    shown = await s3.head_object(Bucket=bucket, Key="acme/tile/0/000", VersionId=stored.version)
    assert shown["ObjectLockMode"] == "COMPLIANCE"
    assert shown["ObjectLockRetainUntilDate"] == until
    assert shown["ObjectLockLegalHoldStatus"] == "ON"


async def test_the_server_refuses_to_delete_a_locked_version(
    target: Target, s3: S3Client, bucket: str
) -> None:
    stored = await target.put("tile/0/000", TILE, in_days(1))
    at: dict[str, Any] = {"Bucket": bucket, "Key": "acme/tile/0/000", "VersionId": stored.version}
    for bypass in (False, True):
        with pytest.raises(ClientError, match="AccessDenied"):
            await s3.delete_object(**at, BypassGovernanceRetention=bypass)
    assert await target.get("tile/0/000", len(TILE)) == TILE


async def test_the_server_refuses_to_delete_a_version_under_legal_hold(
    target: Target, s3: S3Client, bucket: str
) -> None:
    stored = await target.put("tile/0/000", TILE, legal_hold=True)
    with pytest.raises(ClientError, match="AccessDenied"):
        await s3.delete_object(Bucket=bucket, Key="acme/tile/0/000", VersionId=stored.version)


@pytest.mark.parametrize("mode", ["COMPLIANCE", "GOVERNANCE"])
async def test_the_server_refuses_to_shorten_retention(
    target: Target, s3: S3Client, bucket: str, mode: Literal["COMPLIANCE", "GOVERNANCE"]
) -> None:
    until = in_days(10)
    stored = await target.put("tile/0/000", TILE, until)
    at: dict[str, Any] = {"Bucket": bucket, "Key": "acme/tile/0/000", "VersionId": stored.version}
    shorter: Any = {"Mode": mode, "RetainUntilDate": in_days(1)}
    with pytest.raises(ClientError, match=r"AccessDenied|InvalidRequest"):
        await s3.put_object_retention(**at, Retention=shorter, BypassGovernanceRetention=True)
    held = await target.head("tile/0/000")
    assert held is not None
    assert held.retain_until == until


async def test_overwriting_leaves_the_locked_version_and_is_found(
    target: Target, s3: S3Client, bucket: str
) -> None:
    stored = await target.put("tile/0/000", TILE, in_days(1))
    await s3.put_object(Bucket=bucket, Key="acme/tile/0/000", Body=b"forged")
    forged, original = await target.versions("tile/0/000")
    assert original == stored.version
    assert await target.get("tile/0/000", len(TILE), original) == TILE
    with pytest.raises(ArchiveMismatch, match=sha256(b"forged").hexdigest()) as refused:
        await target.put("tile/0/000", TILE, in_days(1))
    assert forged in str(refused.value)


async def test_a_deleted_key_is_put_back_with_the_bytes_it_had_only(
    target: Target, s3: S3Client, bucket: str
) -> None:
    stored = await target.put("tile/0/000", TILE, in_days(1))
    await s3.delete_object(Bucket=bucket, Key="acme/tile/0/000")
    assert await target.head("tile/0/000") is None
    with pytest.raises(ArchiveMismatch):
        await target.put("tile/0/000", b"other", in_days(1))
    again = await target.put("tile/0/000", TILE, in_days(1))
    assert await target.get("tile/0/000", len(TILE)) == TILE
    assert await target.versions("tile/0/000") == (again.version, stored.version)


async def test_the_same_bytes_are_already_stored(target: Target) -> None:
    first = await target.put("tile/0/000", TILE, in_days(2))
    assert await target.put("tile/0/000", TILE, in_days(1)) == first
    assert await target.versions("tile/0/000") == (first.version,)


async def test_short_retention_is_extended_and_a_missing_hold_set(target: Target) -> None:
    first = await target.put("tile/0/000", TILE, in_days(1))
    later = in_days(3)
    again = await target.put("tile/0/000", TILE, later, legal_hold=True)
    assert (again.version, again.retain_until, again.legal_hold) == (first.version, later, True)
    held = await target.head("tile/0/000")
    assert held is not None
    assert (held.retain_until, held.legal_hold) == (later, True)


async def test_an_object_stored_unlocked_is_locked(
    target: Target, s3: S3Client, bucket: str
) -> None:
    await s3.put_object(Bucket=bucket, Key="acme/tile/0/000", Body=TILE)
    until = in_days(1)
    stored = await target.put("tile/0/000", TILE, until)
    assert stored.retain_until == until
    with pytest.raises(ClientError, match="AccessDenied"):
        await s3.delete_object(Bucket=bucket, Key="acme/tile/0/000", VersionId=stored.version)


async def test_other_bytes_are_an_error_with_both_digests(target: Target) -> None:
    await target.put("tile/0/000", TILE, in_days(1))
    other = b"other"
    with pytest.raises(ArchiveMismatch) as refused:
        await target.put("tile/0/000", other, in_days(1))
    assert sha256(TILE).hexdigest() in str(refused.value)
    assert sha256(other).hexdigest() in str(refused.value)
    assert await target.get("tile/0/000", len(TILE)) == TILE


async def test_a_pointer_moves_on_and_its_versions_stay_locked(
    target: Target, s3: S3Client, bucket: str
) -> None:
    until = in_days(5)
    first = await target.put_pointer("checkpoint", b"size 1", until)
    second = await target.put_pointer("checkpoint", b"size 2", in_days(1))
    assert await target.get("checkpoint", 100) == b"size 2"
    assert await target.versions("checkpoint") == (second.version, first.version)
    assert await target.get("checkpoint", 100, first.version) == b"size 1"
    assert second.retain_until == until, "never locked for less long than the one before"
    for version in (first.version, second.version):
        with pytest.raises(ClientError, match="AccessDenied"):
            await s3.delete_object(Bucket=bucket, Key="acme/checkpoint", VersionId=version)
    assert await target.put_pointer("checkpoint", b"size 2", in_days(1)) == second


async def test_a_fraction_of_a_second_rounds_retention_up(target: Target) -> None:
    until = in_days(1)
    stored = await target.put("tile/0/000", TILE, until + timedelta(microseconds=1))
    assert stored.retain_until == until + timedelta(seconds=1)


async def test_a_locked_target_takes_no_unlocked_object(target: Target) -> None:
    with pytest.raises(ArchiveMisconfigured, match="QUIRE_ARCHIVE_RETAIN_DAYS"):
        await target.put("tile/0/000", TILE)
    assert await target.head("tile/0/000") is None


async def test_an_empty_object_is_stored_and_read(target: Target) -> None:
    await target.put("empty", b"", in_days(1))
    assert await target.get("empty", 0) == b""


async def test_get_is_bounded_and_reports_a_missing_object(target: Target) -> None:
    await target.put("tile/0/000", TILE, in_days(1))
    with pytest.raises(ArchiveMismatch, match="longer than the 8191 bytes"):
        await target.get("tile/0/000", len(TILE) - 1)
    with pytest.raises(ArchiveObjectMissing):
        await target.get("tile/0/001", 10)
    assert await target.head("tile/0/001") is None
    assert await target.versions("tile/0/001") == ()


async def test_listing_streams_in_order_over_pages_and_within_the_prefix(
    target: Target, s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.archive.targets.bucket.LISTED_AT_ONCE", 5)
    keys = sorted([f"tile/0/{n:04}" for n in range(12)] + ["tile/0.b", "tile/00"])
    for key in keys:
        await s3.put_object(Bucket=bucket, Key=f"acme/{key}", Body=b"12")
    await s3.put_object(Bucket=bucket, Key="acme-other/tile/0/0000", Body=b"12")
    listed = [listed async for listed in target.list()]
    assert [each.key for each in listed] == keys
    assert {each.size for each in listed} == {2}
    assert [each.key async for each in target.list("tile/0/001")] == keys[-3:-1]


async def test_a_bucket_without_lock_is_refused_unless_declared(
    s3_environ: ObjectStorage, s3: S3Client
) -> None:
    name = f"quire-{uuid4().hex}"
    await s3.create_bucket(Bucket=name)
    async with open_target(f"s3://{name}/acme", s3_environ.settings) as target:
        with pytest.raises(ArchiveMisconfigured, match=r"versioning is not .* Object Lock is not"):
            await target.check()
    async with open_target(f"s3://{name}/acme?lock=none", s3_environ.settings) as target:
        await target.check()
        assert not target.locked
        stored = await target.put("tile/0/000", TILE, in_days(1), legal_hold=True)
        assert (stored.version, stored.retain_until, stored.legal_hold) == ("", None, False)
        assert await target.put("tile/0/000", TILE) == stored
        with pytest.raises(ArchiveMismatch):
            await target.put("tile/0/000", b"other")
        await target.put_pointer("checkpoint", b"size 1")
        await target.put_pointer("checkpoint", b"size 2")
        assert await target.get("checkpoint", 100) == b"size 2"


async def test_versions_without_lock_are_refused(s3_environ: ObjectStorage, s3: S3Client) -> None:
    name = f"quire-{uuid4().hex}"
    await s3.create_bucket(Bucket=name)
    await s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    async with open_target(f"s3://{name}", s3_environ.settings) as target:
        with pytest.raises(ArchiveMisconfigured, match="lock objects: Object Lock is not enabled"):
            await target.check()


async def test_a_missing_bucket_is_named(s3_environ: ObjectStorage) -> None:
    async with open_target("s3://quire-no-such-bucket", s3_environ.settings) as target:
        with pytest.raises(ArchiveMisconfigured, match="no bucket 'quire-no-such-bucket'"):
            await target.check()
        with pytest.raises(ArchiveMisconfigured, match="NoSuchBucket"):
            await target.put("tile/0/000", TILE, in_days(1))
