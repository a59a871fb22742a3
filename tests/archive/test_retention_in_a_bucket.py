"""Retention and restore with a bucket whose objects are locked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
from botocore.exceptions import ClientError

from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.restore.run import Restore
from ledger.archive.targets import Target, open_target
from ledger.archive.writing.object_writer import ObjectLock
from ledger.core.reading.past import ArchivePast
from ledger.core.reading.trail import TrailReader
from ledger.core.verification.run import TrailRange as Verified
from ledger.core.verification.run import verify_trail
from ledger.core.verification.work.crew import ArchiveAt
from ledger.core.verification.work.trust import TrailTrust
from ledger.entry import RecordId, from_datetime
from ledger.errors import RetentionRefused
from ledger.storage import dropped_months
from tests.support.archives import HISTORY, SignedTrail
from tests.support.clusters import Cluster, Database
from tests.support.object_storage import ObjectStorage
from tests.support.restoring import contents, restore_inputs
from tests.support.retaining import FEBRUARY, JANUARY, moment, retaining, set_retention
from tests.support.rings import slow
from tests.support.s3_proxy import Fault, S3Proxy, always
from tests.support.trails import ORG, ORG_ID, RING

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

pytestmark = pytest.mark.xdist_group("object_storage")

PACK = "quire/acme/payloads/000/000-255"


@pytest.fixture
async def target(s3_environ: ObjectStorage, bucket: str) -> AsyncIterator[Target]:
    async with open_target(f"s3://{bucket}/quire", s3_environ.settings) as opened:
        yield opened


@pytest.fixture
def migrated_database(postgres_cluster: Cluster) -> Iterator[Database]:
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


async def test_a_month_dropped_to_a_bucket_is_read_verified_and_restored(
    archived_trail: SignedTrail,
    target: Target,
    s3_environ: ObjectStorage,
    migrated_database: Database,
) -> None:
    await archived_trail.grow(300, now_us=moment(JANUARY))
    await archived_trail.grow(20, now_us=moment(FEBRUARY))
    await archived_trail.archive(target, ObjectLock(retain_days=1))
    before = await contents(archived_trail.database)
    await set_retention(archived_trail, 1)
    async with retaining(archived_trail, target) as retention:
        assert await retention.drop_month(JANUARY) is not None
    past = ArchivePast(archived_trail.server, target.url, s3_environ.settings)
    reader = TrailReader(archived_trail.server, past)
    for row in (archived_trail.rows[0], archived_trail.rows[299]):
        place = RecordId(ORG_ID, from_datetime(row.anchored_at), row.seq)
        assert await reader.entry(place) == row
    await reader.close()
    result = await verify_trail(
        archived_trail.database.server_url,
        Verified(ORG_ID, ORG),
        RING,
        trust=TrailTrust.of(HISTORY, ORG),
        archive=ArchiveAt(target.url, s3_environ.settings),
        processes=1,
    )
    assert (result.errors, result.verified_entries) == ([], 320)
    await Restore(target, migrated_database.owner_url, restore_inputs(archived_trail.memory)).run(
        [ORG]
    )
    after = await contents(migrated_database)
    assert after == before, "as it was before January left"


@pytest.mark.parametrize("before", ["a day", slow("nothing")])
@pytest.mark.parametrize("policy", [ObjectLock(retain_days=30), ObjectLock(legal_hold=True)])
async def test_dropped_entries_are_locked_from_then_on(
    archived_trail: SignedTrail,
    s3_environ: ObjectStorage,
    s3: S3Client,
    bucket: str,
    policy: ObjectLock,
    before: str,
) -> None:
    url, settings = f"s3://{bucket}/quire", s3_environ.settings
    async with open_target(url, settings) as target:
        await archived_trail.grow(300, now_us=moment(JANUARY))
        await archived_trail.grow(300, now_us=moment(FEBRUARY))
        await archived_trail.archive(target, ObjectLock(retain_days=1))
        if before == "nothing":
            async for listed in target.list():
                data = await target.get(listed.key, listed.size)
                await s3.put_object(Bucket=bucket, Key=f"quire/{listed.key}", Body=data)
    await set_retention(archived_trail, 1)
    asked = datetime.now(UTC)
    async with open_target(url, settings) as target:
        async with retaining(archived_trail, target, policy) as retention:
            assert await retention.drop_month(JANUARY) is not None
        reader = ArchiveReader(target, ORG)
        keys = [listed.key async for listed in reader.objects()]
        short = []
        for key in keys:
            held = await target.head(reader.key(key))
            assert held is not None
            lasts = held.retain_until and held.retain_until >= asked + timedelta(days=30)
            if not (held.legal_hold if policy.legal_hold else lasts):
                short.append(key)
    # The last entry bundle has no entry of January, and nonces stay in the database.
    packs = {"payloads/000/000-255", "payloads/001/000-255"}
    assert packs <= set(keys) - set(short)
    assert {"checkpoint", "log-keys.json", "org.json", "tile/0/000", "tile/0/001"}.isdisjoint(short)
    assert {key for key in short if not key.startswith(("nonces/", "checkpoints/"))} == {
        "payloads/002/000-087",
        "tile/entries/002.p/88",
    }
    newest = await s3.head_object(Bucket=bucket, Key=PACK)
    with pytest.raises(ClientError, match="AccessDenied"):
        await s3.delete_object(Bucket=bucket, Key=PACK, VersionId=newest["VersionId"])


async def test_nothing_is_dropped_if_the_bucket_refuses_a_longer_lock(
    archived_trail: SignedTrail, s3_environ: ObjectStorage, s3_proxy: S3Proxy, bucket: str
) -> None:
    url = f"s3://{bucket}/quire"
    async with open_target(url, s3_environ.settings) as target:
        await archived_trail.grow(30, now_us=moment(JANUARY))
        await archived_trail.grow(5, now_us=moment(FEBRUARY))
        await archived_trail.archive(target, ObjectLock(retain_days=1))
    await set_retention(archived_trail, 1)
    s3_proxy.decide = always("PUT", Fault.DENIED)
    settings = msgspec.structs.replace(
        s3_environ.settings, s3_endpoint=s3_proxy.endpoint, attempts=1
    )
    policy = ObjectLock(retain_days=30)
    async with (
        open_target(url, settings) as target,
        retaining(archived_trail, target, policy) as retention,
    ):
        with pytest.raises(
            RetentionRefused, match=r"of acme stay in the database: .*extend the retention"
        ):
            await retention.drop_month(JANUARY)
        assert await dropped_months.live_from(archived_trail.server, ORG_ID) == 0
        s3_proxy.decide = lambda _: Fault.NONE
        assert await retention.drop_month(JANUARY) is not None


async def test_nothing_is_dropped_to_a_bucket_without_a_policy(
    archived_trail: SignedTrail, target: Target
) -> None:
    await archived_trail.grow(30, now_us=moment(JANUARY))
    await archived_trail.grow(5, now_us=moment(FEBRUARY))
    await archived_trail.archive(target, ObjectLock(retain_days=1))
    await set_retention(archived_trail, 1)
    async with retaining(archived_trail, target, ObjectLock()) as retention:
        with pytest.raises(RetentionRefused, match="QUIRE_ARCHIVE_RETAIN_DAYS"):
            await retention.drop_month(JANUARY)
    assert await dropped_months.live_from(archived_trail.server, ORG_ID) == 0


async def test_nothing_is_dropped_while_the_bucket_is_unreachable(
    archived_trail: SignedTrail, s3_environ: ObjectStorage, bucket: str
) -> None:
    settings = s3_environ.settings
    url = f"s3://{bucket}/quire"
    async with open_target(url, settings) as target:
        await archived_trail.grow(30, now_us=moment(JANUARY))
        await archived_trail.grow(5, now_us=moment(FEBRUARY))
        await archived_trail.archive(target, ObjectLock(retain_days=1))
    await set_retention(archived_trail, 1)
    away = type(settings)(
        s3_endpoint="http://127.0.0.1:9", attempts=1, attempts_timeout_s=1, connect_timeout_s=1
    )
    async with open_target(url, away) as gone, retaining(archived_trail, gone) as retention:
        with pytest.raises(RetentionRefused):
            await retention.drop_month(JANUARY)
    assert await dropped_months.live_from(archived_trail.server, ORG_ID) == 0
