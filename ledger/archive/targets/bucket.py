"""Single requests to one bucket of object storage, each bounded, none retried."""

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
FOUND_AT_ONCE = 5  # versions that `find` requests; it needs the first of them
LISTED_AT_ONCE = 1_000  # the most that servers return
VERSION_PAGES_MAX = 100  # of 1,000 versions each, of one key


class FoundObject(NamedTuple):
    """The newest version of a key; `hidden` when a delete marker hides it."""

    version: str
    hidden: bool


class Bucket:
    """A bucket with all keys below one prefix. Opened by `connected`."""

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
        """Open a bucket with its own connections; nothing is sent yet."""
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
        """Return the reasons why the bucket does not lock objects; empty when it does."""
        faults = []
        with explained(self._where, "read the bucket's versioning"):
            versioning = await self._s3.get_bucket_versioning(Bucket=self._name)
        if versioning.get("Status") != "Enabled":
            faults.append("versioning is not enabled")
        with explained(self._where, "read the bucket's Object Lock settings"):
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
        """Raise an ArchiveError unless the bucket exists and may be read."""
        with explained(self._where, "reach the bucket"):
            try:
                await self._s3.head_bucket(Bucket=self._name)
            except ClientError as error:
                if status_of(error) != 404:
                    raise
                raise ArchiveMisconfigured(
                    f"there is no bucket {self._name!r} at this endpoint; create it with "
                    "versioning and Object Lock, or correct the target's URL"
                ) from error

    async def put(self, expected: ExpectedObject, *, locked: bool, only_new: bool) -> str:
        """Write an object by one request; return its version, empty where there are none.

        `only_new` makes the server refuse to write over another writer's object; a server
        without conditional writes (Ceph 16) keeps both as versions.
        """
        options: dict[str, Any] = {"IfNoneMatch": "*"} if only_new else {}
        if locked and expected.retain_until is not None:
            options["ObjectLockMode"] = "COMPLIANCE"
            options["ObjectLockRetainUntilDate"] = expected.retain_until
        if locked and expected.legal_hold:
            options["ObjectLockLegalHoldStatus"] = "ON"
        with explained(self._where, f"store {expected.key!r}"):
            answer = await self._s3.put_object(
                Bucket=self._name,
                Key=self._prefix + expected.key,
                Body=expected.data,
                # Amazon demands a checksum with a lock; some servers ignore a wrong one.
                ChecksumSHA256=base64.b64encode(expected.sha256).decode("ascii"),
                **options,
            )
        return _version(answer)

    async def lock(self, expected: ExpectedObject, state: ObjectState) -> None:
        """Raise retention and legal hold of a version to those expected; never lower them."""
        at = self._at(expected.key, state.version)
        until = expected.retain_until
        if until is not None and (state.retain_until is None or state.retain_until < until):
            with explained(self._where, f"extend the retention of {expected.key!r}"):
                await self._s3.put_object_retention(
                    **at, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until}
                )
        # A crash here leaves the retention extended without the legal hold: the next `put` or
        # `extend` of the object sets the hold.
        if expected.legal_hold and not state.legal_hold:
            with explained(self._where, f"put {expected.key!r} under legal hold"):
                await self._s3.put_object_legal_hold(**at, LegalHold={"Status": "ON"})

    async def head(self, key: str, version: str = "") -> ObjectState:
        """Return the state of a version, or of the newest. Raises ArchiveObjectMissing."""
        with explained(self._where, f"find {key!r}"):
            return _state(key, await self._s3.head_object(**self._at(key, version)))

    async def find(self, key: str) -> FoundObject | None:
        """Return the newest version of a key, also of a deleted one; None if there never was any.

        Uses a listing, as some servers do not report that a missing key was deleted.
        """
        path = self._prefix + key
        with explained(self._where, f"find {key!r}"):
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
        """Read a version back; its digest, size and lock come from one answer."""
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
        state = _state(key, answer)
        return StoredObject(
            key=key,
            version=state.version,
            size=size,
            retain_until=state.retain_until,
            legal_hold=state.legal_hold,
            sha256=hashed.digest(),
        )

    async def read(self, key: str, limit: int, version: str = "") -> bytes:
        """Read the bytes of a version, or of the newest."""
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
        """Return all versions of a key, newest first; empty where the bucket keeps none."""
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
        """Return up to LISTED_AT_ONCE objects whose keys follow `after`; empty at the end."""
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
        # `put` sends a SHA-256 itself; servers other than Amazon's know no CRC-64 trailers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "payload_signing_enabled": True,
            # A private endpoint seldom has a DNS name for every bucket.
            "addressing_style": "path" if settings.s3_endpoint else "auto",
        },
    )


def _state(key: str, answer: Any) -> ObjectState:
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
    """Return the version id; unversioned buckets state none, or `null`."""
    version = answer.get("VersionId") or ""
    return "" if version == "null" else version


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
