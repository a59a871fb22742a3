"""Lost connections, throttling, wrong credentials, changed bytes: retried or reported, never archived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec
import pytest

from ledger.archive.targets import StoredObject, Target, TargetSettings, open_target
from ledger.errors import ArchiveDenied, ArchiveMisconfigured, ArchiveMismatch, ArchiveUnavailable
from tests.support.clusters import _free_port
from tests.support.object_storage import ObjectStorage
from tests.support.s3_proxy import Fault, S3Proxy, always, in_turn, once
from tests.support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

pytestmark = pytest.mark.xdist_group("object_storage")

BUNDLE = b"entry bundle " * 4_000
KEY = "tile/entries/000"


def tomorrow() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)


def through(proxy: S3Proxy, storage: ObjectStorage) -> TargetSettings:
    return msgspec.structs.replace(storage.settings, s3_endpoint=proxy.endpoint)


@pytest.fixture
async def target(
    s3_proxy: S3Proxy, s3_environ: ObjectStorage, bucket: str
) -> AsyncIterator[Target]:
    """A bucket target behind the proxy."""
    async with open_target(f"s3://{bucket}/acme", through(s3_proxy, s3_environ)) as opened:
        yield opened


@pytest.mark.parametrize("step", ["look", "write", "read back"])
@pytest.mark.parametrize(
    "fault", [Fault.LOST, Fault.ANSWER_LOST, Fault.THROTTLED, Fault.ANSWER_TRUNCATED]
)
async def test_a_passing_fault_is_retried_and_leaves_one_version(
    target: Target, s3_proxy: S3Proxy, s3_environ: ObjectStorage, step: str, fault: Fault
) -> None:
    faults = {
        "look": ("GET", [fault]),
        "write": ("PUT", [fault]),
        "read back": ("GET", [Fault.NONE, fault]),
    }
    s3_proxy.decide = in_turn(*faults[step])
    until = tomorrow()
    stored = await target.put(KEY, BUNDLE, until, legal_hold=True)
    assert (stored.sha256, stored.retain_until) == (sha256(BUNDLE).digest(), until)
    versions = await target.versions(KEY)
    assert versions[0] == stored.version
    assert len(versions) == 1 or not s3_environ.writes_conditionally


async def test_half_an_object_is_written_again(target: Target, s3_proxy: S3Proxy) -> None:
    s3_proxy.decide = once("PUT", Fault.BODY_TRUNCATED)
    stored = await target.put(KEY, BUNDLE, tomorrow())
    assert await target.versions(KEY) == (stored.version,)
    assert await target.get(KEY, len(BUNDLE)) == BUNDLE


async def test_a_pointer_whose_answer_was_lost_keeps_what_was_before(
    target: Target, s3_proxy: S3Proxy
) -> None:
    first = await target.put_pointer("checkpoint", b"size 1", tomorrow())
    s3_proxy.decide = once("PUT", Fault.ANSWER_LOST)
    second = await target.put_pointer("checkpoint", b"size 2", tomorrow())
    versions = await target.versions("checkpoint")
    assert (versions[0], versions[-1]) == (second.version, first.version)
    kept = [await target.get("checkpoint", 6, version) for version in versions]
    assert kept == [b"size 2"] * (len(kept) - 1) + [b"size 1"]


async def test_a_body_that_changes_on_its_way_is_sent_again(
    target: Target, s3_proxy: S3Proxy
) -> None:
    s3_proxy.decide = once("PUT", Fault.BODY_CORRUPTED)
    stored = await target.put(KEY, BUNDLE, tomorrow())
    assert await target.versions(KEY) == (stored.version,)
    assert await target.get(KEY, len(BUNDLE)) == BUNDLE
    assert s3_proxy.methods().count("PUT") == 2


async def test_other_bytes_than_were_sent_are_found_by_reading_back(
    target: Target, s3_proxy: S3Proxy
) -> None:
    s3_proxy.decide = in_turn("GET", [Fault.NONE, Fault.ANSWER_CORRUPTED])
    with pytest.raises(ArchiveMismatch, match=sha256(BUNDLE).hexdigest()):
        await target.put(KEY, BUNDLE, tomorrow())


async def test_other_bytes_accepted_unnoticed_are_found(
    target: Target, s3_proxy: S3Proxy, s3_environ: ObjectStorage
) -> None:
    if s3_environ.checks_credentials:  # the signature covers the digests
        s3_proxy.decide = always("PUT", Fault.BODY_REPLACED)
        with pytest.raises(ArchiveDenied):
            await target.put(KEY, BUNDLE, tomorrow())
        return
    s3_proxy.decide = once("PUT", Fault.BODY_REPLACED)
    with pytest.raises(ArchiveMismatch, match=sha256(BUNDLE).hexdigest()):
        await target.put(KEY, BUNDLE, tomorrow())
    with pytest.raises(ArchiveMismatch):
        await target.put(KEY, BUNDLE, tomorrow())


async def test_a_lock_that_the_server_dropped_is_found_by_reading_back(
    target: Target, s3_proxy: S3Proxy
) -> None:
    s3_proxy.drop_answer_headers = ("x-amz-object-lock-",)
    with pytest.raises(ArchiveMismatch, match="the server reports no retention"):
        await target.put(KEY, BUNDLE, tomorrow())
    with pytest.raises(ArchiveMismatch, match="no legal hold"):
        await target.put("held", BUNDLE, legal_hold=True)


async def test_an_answer_without_a_version_is_a_failure(target: Target, s3_proxy: S3Proxy) -> None:
    s3_proxy.drop_answer_headers = ("x-amz-version-id",)
    with pytest.raises(ArchiveMismatch, match="without a version"):
        await target.put(KEY, BUNDLE, tomorrow())


async def test_a_truncated_read_is_never_returned(target: Target, s3_proxy: S3Proxy) -> None:
    await target.put(KEY, BUNDLE, tomorrow())
    s3_proxy.decide = always("GET", Fault.ANSWER_TRUNCATED)
    with pytest.raises(ArchiveUnavailable):
        await target.get(KEY, len(BUNDLE))


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.THROTTLED])
async def test_a_lasting_fault_is_reported_after_as_many_attempts_as_set(
    target: Target,
    s3_proxy: S3Proxy,
    s3_environ: ObjectStorage,
    s3: S3Client,
    bucket: str,
    fault: Fault,
) -> None:
    s3_proxy.decide = always("PUT", fault)
    with pytest.raises(ArchiveUnavailable):
        await target.put(KEY, BUNDLE, tomorrow())
    assert s3_proxy.methods().count("GET") == s3_environ.settings.attempts
    listed = await s3.list_object_versions(Bucket=bucket)
    assert "Versions" not in listed


async def test_attempts_end_when_their_time_is_over(
    s3_proxy: S3Proxy, s3_environ: ObjectStorage, bucket: str
) -> None:
    s3_proxy.decide = always("HEAD", Fault.LOST)
    settings = msgspec.structs.replace(
        through(s3_proxy, s3_environ), attempts=100, attempts_timeout_s=0.3
    )
    async with open_target(f"s3://{bucket}", settings) as target:
        with pytest.raises(ArchiveUnavailable):
            await asyncio.wait_for(target.head(KEY), PATIENCE_S)


async def test_a_refused_connection_is_unavailable(s3_environ: ObjectStorage, bucket: str) -> None:
    nowhere = msgspec.structs.replace(
        s3_environ.settings, s3_endpoint=f"http://127.0.0.1:{_free_port()}"
    )
    async with open_target(f"s3://{bucket}", nowhere) as target:
        with pytest.raises(ArchiveUnavailable, match="could not be reached"):
            await target.check()


async def test_unknown_credentials_are_denied_and_not_tried_again(
    s3_proxy: S3Proxy,
    s3_environ: ObjectStorage,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    if not s3_environ.checks_credentials:
        s3_proxy.decide = lambda _: Fault.DENIED
    async with open_target(f"s3://{bucket}", through(s3_proxy, s3_environ)) as target:
        with pytest.raises(ArchiveDenied, match="Check the credentials"):
            await target.check()
        with pytest.raises(ArchiveDenied):
            await target.put(KEY, BUNDLE, tomorrow())
    assert len(s3_proxy.requests) == 2


async def test_credentials_refused_midway_store_nothing(target: Target, s3_proxy: S3Proxy) -> None:
    s3_proxy.decide = in_turn("GET", [Fault.NONE, Fault.DENIED])
    with pytest.raises(ArchiveDenied):
        await target.put(KEY, BUNDLE, tomorrow())


async def test_missing_credentials_are_reported_with_the_variables(
    s3_environ: ObjectStorage, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with open_target(f"s3://{bucket}", s3_environ.settings) as target:
        with pytest.raises(ArchiveDenied, match="AWS_SECRET_ACCESS_KEY"):
            await target.check()


async def test_an_invalid_endpoint_is_misconfigured() -> None:
    settings = TargetSettings(s3_endpoint="not an endpoint")
    with pytest.raises(ArchiveMisconfigured, match="not an endpoint"):
        async with open_target("s3://quire-bucket", settings):
            pass


async def test_two_writers_of_one_key_leave_one_version(
    s3_environ: ObjectStorage, bucket: str
) -> None:
    async with open_target(f"s3://{bucket}", s3_environ.settings) as target:
        until = tomorrow()
        results = await asyncio.gather(
            *(target.put(KEY, bytes([n % 2]) * 100, until) for n in range(8)),
            return_exceptions=True,
        )
        versions = await target.versions(KEY)
        kept = {await target.get(KEY, 100, version) for version in versions}
        assert len(versions) == 1 or not s3_environ.writes_conditionally
        for n, result in enumerate(results):
            if bytes([n % 2]) * 100 in kept:
                assert isinstance(result, StoredObject | ArchiveMismatch)
            else:
                assert isinstance(result, ArchiveMismatch)
        # Any server reports the other bytes to the later writer.
        with pytest.raises(ArchiveMismatch):
            await target.put(KEY, b"third", until)
