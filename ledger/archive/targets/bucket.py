"""Single requests to one bucket of object storage, each bounded, none tried twice."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from ledger.archive.targets.objects import (
    OBJECT_BYTES_MAX,
    ExpectedObject,
    ListedObject,
    ObjectState,
    StoredObject,
    TargetSettings,
    too_long,
)
from ledger.archive.targets.s3_errors import explained, status_of
from ledger.errors import ArchiveMisconfigured, ArchiveMismatch

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

CHUNK_BYTES = 1 << 16
CONNECTIONS_MAX = 32
FOUND_AT_ONCE = 5  # of which the first tells whether there is one
LISTED_AT_ONCE = 1_000  # the most that servers give
VERSION_PAGES_MAX = 100  # of 1,000 versions each, of one key


class FoundObject(NamedTuple):
    """The newest version of a key; `hidden` when a deletion stands before it."""

    version: str
    hidden: bool


class Bucket:
    """A bucket, its keys below a prefix. Opened by `connected`."""

    def __init__(self, client: S3Client, name: str, prefix: str) -> None:
        self._s3 = client
        self._name = name
        self._prefix = f"{prefix}/" if prefix else ""
        self._where = f"s3://{name}/{prefix}"

    @classmethod
    @asynccontextmanager
    async def connected(
        cls, name: str, prefix: str, settings: TargetSettings
    ) -> AsyncIterator[Self]:
        """A bucket with connections of its own; nothing is sent yet."""
        endpoint = {"endpoint_url": settings.s3_endpoint} if settings.s3_endpoint else {}
        with explained(f"s3://{name}", "set up the client"):
            try:
                opening = get_session().create_client("s3", config=_config(settings), **endpoint)
                client = await opening.__aenter__()
            except ValueError as error:
                raise ArchiveMisconfigured(f"s3://{name}: {error}") from error
        try:
            yield cls(client, name, prefix)
        finally:
            await client.__aexit__(None, None, None)

    async def lock_faults(self) -> list[str]:
        """What keeps the bucket from locking objects; none when nothing does."""
        faults = []
        with explained(self._where, "tell whether it keeps versions"):
            versioning = await self._s3.get_bucket_versioning(Bucket=self._name)
        if versioning.get("Status") != "Enabled":
            faults.append("versioning is not enabled")
        with explained(self._where, "tell whether Object Lock is on"):
            try:
                answer = await self._s3.get_object_lock_configuration(Bucket=self._name)
                enabled = answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled")
            except ClientError as error:
                if _code(error) != "ObjectLockConfigurationNotFoundError":
                    raise
                enabled = None
        if enabled != "Enabled":
            faults.append("Object Lock is not enabled")
        return faults

    async def reach(self) -> None:
        """Raises unless the bucket exists and may be read."""
        with explained(self._where, "answer for the bucket"):
            try:
                await self._s3.head_bucket(Bucket=self._name)
            except ClientError as error:
                if status_of(error) != 404:
                    raise
                raise ArchiveMisconfigured(
                    f"there is no bucket {self._name!r} at this endpoint; create it with "
                    "versioning and Object Lock, or correct the target's URL"
                ) from error

    async def put(self, wanted: ExpectedObject, *, locked: bool, only_new: bool) -> str:
        """Write an object by one request; returns its version, empty where there are none.

        `only_new` makes the server refuse to write over another writer's object; one that
        knows no conditional writes (Ceph 16) keeps both as versions.
        """
        options: dict[str, Any] = {"IfNoneMatch": "*"} if only_new else {}
        if locked and wanted.retain_until is not None:
            options["ObjectLockMode"] = "COMPLIANCE"
            options["ObjectLockRetainUntilDate"] = wanted.retain_until
        if locked and wanted.legal_hold:
            options["ObjectLockLegalHoldStatus"] = "ON"
        with explained(self._where, f"store {wanted.key!r}"):
            answer = await self._s3.put_object(
                Bucket=self._name,
                Key=self._prefix + wanted.key,
                Body=wanted.data,
                # Amazon demands a checksum with a lock; some servers ignore a wrong one.
                ChecksumSHA256=base64.b64encode(wanted.sha256).decode("ascii"),
                **options,
            )
        return _version(answer)

    async def lock(self, wanted: ExpectedObject, held: ObjectState) -> None:
        """Bring retention and legal hold of a version up to what is wanted; never down."""
        at = self._at(wanted.key, held.version)
        until = wanted.retain_until
        if until is not None and (held.retain_until is None or held.retain_until < until):
            with explained(self._where, f"extend the retention of {wanted.key!r}"):
                await self._s3.put_object_retention(
                    **at, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until}
                )
        if wanted.legal_hold and not held.legal_hold:
            with explained(self._where, f"put {wanted.key!r} under legal hold"):
                await self._s3.put_object_legal_hold(**at, LegalHold={"Status": "ON"})

    async def head(self, key: str, version: str = "") -> ObjectState:
        """What the bucket says of a version, or of the newest; ArchiveObjectMissing."""
        with explained(self._where, f"find under {key!r}"):
            return _held(key, await self._s3.head_object(**self._at(key, version)))

    async def find(self, key: str) -> FoundObject | None:
        """The newest version of a key, also of a deleted one; None if there never was any.

        By a listing, as not every server says of a missing key that it was deleted.
        """
        path = self._prefix + key
        with explained(self._where, f"look for {key!r}"):
            page = await self._s3.list_object_versions(
                Bucket=self._name, Prefix=path, MaxKeys=FOUND_AT_ONCE
            )
        versions = [each for each in page.get("Versions", []) if each.get("Key") == path]
        if versions and versions[0].get("IsLatest"):
            return FoundObject(_version(versions[0]), hidden=False)
        if not any(each.get("Key") == path for each in page.get("DeleteMarkers", [])):
            return None
        older = await self.versions(key)
        return FoundObject(older[0], hidden=True) if older else None

    async def digest(self, key: str, version: str) -> StoredObject:
        """A version as it is read back: everything in one answer."""
        hashed = sha256()
        size = 0
        with explained(self._where, f"read {key!r} back"):
            answer = await self._s3.get_object(**self._at(key, version))
            async with answer["Body"] as body:
                while chunk := await body.read(CHUNK_BYTES):
                    hashed.update(chunk)
                    size += len(chunk)
                    if size > OBJECT_BYTES_MAX:
                        raise too_long(key, OBJECT_BYTES_MAX)
        held = _held(key, answer)
        return StoredObject(
            key=key,
            version=held.version,
            size=size,
            retain_until=held.retain_until,
            legal_hold=held.legal_hold,
            sha256=hashed.digest(),
        )

    async def read(self, key: str, limit: int, version: str = "") -> bytes:
        """The bytes of a version, or of the newest."""
        data = bytearray()
        with explained(self._where, f"read {key!r}"):
            answer = await self._s3.get_object(**self._at(key, version))
            async with answer["Body"] as body:
                while chunk := await body.read(min(CHUNK_BYTES, limit + 1 - len(data))):
                    data += chunk
                    if len(data) > limit:
                        raise too_long(key, limit)
        return bytes(data)

    async def versions(self, key: str) -> tuple[str, ...]:
        """All versions of a key, newest first; empty where the bucket keeps none."""
        path, found = self._prefix + key, []
        after: dict[str, Any] = {}
        for _ in range(VERSION_PAGES_MAX):
            with explained(self._where, f"list the versions of {key!r}"):
                page = await self._s3.list_object_versions(Bucket=self._name, Prefix=path, **after)
            found += [each for each in page.get("Versions", []) if each.get("Key") == path]
            # Keys that merely begin with this one come after it.
            if not page.get("IsTruncated") or page.get("NextKeyMarker") != path:
                return tuple(_version(each) for each in found)
            after = {
                "KeyMarker": page["NextKeyMarker"],
                "VersionIdMarker": page["NextVersionIdMarker"],
            }
        raise ArchiveMismatch(f"{key!r} has more than {len(found)} versions")

    async def list_after(self, prefix: str, after: str) -> tuple[ListedObject, ...]:
        """A page of up to LISTED_AT_ONCE objects whose keys follow `after`; none at the end."""
        start: dict[str, Any] = {"StartAfter": self._prefix + after} if after else {}
        with explained(self._where, "list its objects"):
            page = await self._s3.list_objects_v2(
                Bucket=self._name,
                Prefix=self._prefix + prefix,
                MaxKeys=LISTED_AT_ONCE,
                **start,
            )
        return tuple(
            ListedObject(each["Key"].removeprefix(self._prefix), each["Size"])
            for each in page.get("Contents", [])
        )

    def _at(self, key: str, version: str) -> dict[str, Any]:
        at = {"Bucket": self._name, "Key": self._prefix + key}
        return {**at, "VersionId": version} if version else at


def _config(settings: TargetSettings) -> AioConfig:
    return AioConfig(
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        max_pool_connections=CONNECTIONS_MAX,
        retries={"total_max_attempts": 1},
        # We send a SHA-256 of our own; servers other than Amazon's know no CRC-64 trailers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "payload_signing_enabled": True,
            # Behind an endpoint of one's own there is seldom a name for every bucket.
            "addressing_style": "path" if settings.s3_endpoint else "auto",
        },
    )


def _held(key: str, answer: Any) -> ObjectState:
    compliance = answer.get("ObjectLockMode") == "COMPLIANCE"
    until: datetime | None = answer.get("ObjectLockRetainUntilDate")
    return ObjectState(
        key=key,
        version=_version(answer),
        size=answer.get("ContentLength", 0),
        retain_until=until.astimezone(UTC) if compliance and until is not None else None,
        legal_hold=answer.get("ObjectLockLegalHoldStatus") == "ON",
    )


def _version(answer: Any) -> str:
    """A version id; unversioned buckets say none, or `null`."""
    version = answer.get("VersionId") or ""
    return "" if version == "null" else version


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
