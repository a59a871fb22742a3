"""A trail is archived in object storage that enforces Object Lock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
from botocore.exceptions import ClientError

from ledger.archive.format.layout import ANCHORS
from ledger.archive.targets import open_target
from ledger.archive.verification.run import ArchiveVerificationOptions, LiveTrail, verify_archive
from ledger.archive.writing.object_writer import ObjectLock
from ledger.errors import ArchiveDenied, ArchiveMisconfigured, ArchiveUnavailable
from tests.support.archives import HISTORY, SignedTrail, account_of
from tests.support.object_storage import ObjectStorage
from tests.support.rings import slow
from tests.support.s3_proxy import Fault, S3Proxy, always
from tests.support.trails import ORG, ORG_ID, RING

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

pytestmark = pytest.mark.xdist_group("object_storage")

LOCKED = ObjectLock(retain_days=1, legal_hold=True)


async def test_every_object_is_locked_and_the_archive_is_right(
    archived_trail: SignedTrail, s3_environ: ObjectStorage, bucket: str, s3: S3Client
) -> None:
    async with open_target(f"s3://{bucket}/quire", s3_environ.settings) as target:
        await target.check()
        for count in (3, 300):
            await archived_trail.grow(count)
            await archived_trail.archive(target, LOCKED)
        how = ArchiveVerificationOptions(s3_environ.settings, HISTORY.pins(), processes=1)
        live = LiveTrail(archived_trail.server, ORG_ID)
        verdict, anchors = await verify_archive(target, ORG, how, keyring=RING, live=live)
    assert verdict.faults == anchors.faults == ()
    assert (verdict.entries, verdict.database, verdict.signatures) == (303, True, True)
    until = datetime.now(UTC) + timedelta(hours=23)
    listed = (await s3.list_object_versions(Bucket=bucket))["Versions"]
    assert {version["Key"].split("/")[1] for version in listed} == {ORG, ANCHORS}
    for version in listed:
        at = {"Bucket": bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
        shown = await s3.head_object(**at)  # type: ignore[arg-type]
        assert shown["ObjectLockMode"] == "COMPLIANCE"
        assert shown["ObjectLockRetainUntilDate"] > until
        assert shown["ObjectLockLegalHoldStatus"] == "ON"
        with pytest.raises(ClientError, match="AccessDenied"):
            await s3.delete_object(**at)  # type: ignore[arg-type]
    pointers = {"checkpoint", "log-keys.json", "org.json"}
    keys = [version["Key"] for version in listed]
    again = {key.rpartition("/")[2] for key in keys if keys.count(key) > 1}
    assert again <= pointers


async def test_a_bucket_that_locks_needs_a_policy(
    archived_trail: SignedTrail, s3_environ: ObjectStorage, bucket: str
) -> None:
    await archived_trail.grow(3)
    async with open_target(f"s3://{bucket}", s3_environ.settings) as target:
        with pytest.raises(ArchiveMisconfigured, match="QUIRE_ARCHIVE_RETAIN_DAYS"):
            await archived_trail.archive(target)
        assert await account_of(archived_trail.server, target).upto(ORG_ID) is None


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        slow(Fault.THROTTLED, ArchiveUnavailable),
        slow(Fault.LOST, ArchiveUnavailable),
        (Fault.BODY_TRUNCATED, ArchiveUnavailable),
        (Fault.DENIED, ArchiveDenied),
    ],
)
async def test_a_failing_target_records_nothing_and_the_next_run_continues(
    archived_trail: SignedTrail,
    s3_proxy: S3Proxy,
    s3_environ: ObjectStorage,
    bucket: str,
    fault: Fault,
    expected: type[Exception],
) -> None:
    await archived_trail.grow(30)
    settings = msgspec.structs.replace(s3_environ.settings, s3_endpoint=s3_proxy.endpoint)
    async with open_target(f"s3://{bucket}", settings) as target:
        s3_proxy.decide = always("PUT", fault)
        with pytest.raises(expected):
            await archived_trail.archive(target, LOCKED)
        assert await account_of(archived_trail.server, target).upto(ORG_ID) is None
        s3_proxy.decide = lambda _: Fault.NONE
        await archived_trail.archive(target, LOCKED)
        verdict, _ = await verify_archive(
            target, ORG, ArchiveVerificationOptions(settings, HISTORY.pins(), processes=0)
        )
    assert (verdict.valid, verdict.entries) == (True, 30)
