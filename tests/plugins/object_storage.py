"""Fixtures: real object storage with Object Lock; OBJECT_STORAGE=ceph chooses Ceph."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.support.ceph import Ceph
from tests.support.object_storage import LocalStack, ObjectStorage
from tests.support.s3_proxy import S3Proxy

if TYPE_CHECKING:
    from aiobotocore.session import AioSession
    from types_aiobotocore_s3.client import S3Client

SERVERS = {"localstack": LocalStack, "ceph": Ceph}


@pytest.fixture(scope="session")
def object_storage(session_dir: Path) -> Iterator[ObjectStorage]:
    """One server for the session.

    Its tests carry `xdist_group("object_storage")`, so that one worker process starts it.
    """
    server = SERVERS[os.environ.get("OBJECT_STORAGE", "localstack")](session_dir / "s3")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3_environ(object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    """The server, with this process's environment set to its credentials."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in object_storage.environ.items():
        monkeypatch.setenv(name, value)
    return object_storage


@pytest.fixture
async def s3(s3_environ: ObjectStorage) -> AsyncIterator[S3Client]:
    """A separate S3 client, for the acts of an attacker or an operator."""
    opening = _session().create_client(
        "s3",
        endpoint_url=s3_environ.endpoint,
        aws_access_key_id=s3_environ.access_key,
        aws_secret_access_key=s3_environ.secret_key,
    )
    async with opening as client:
        yield client


@cache
def _session() -> AioSession:
    """One session for all clients: each takes a quarter of a second to load S3's description."""
    # Imported here: the import takes even longer, and most tests do not need it.
    from aiobotocore.session import get_session  # noqa: PLC0415

    return get_session()


@pytest.fixture
async def bucket(s3: S3Client) -> str:
    """Name of an empty bucket with versioning and Object Lock."""
    name = f"quire-{uuid4().hex}"
    await s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.fixture
async def s3_proxy(s3_environ: ObjectStorage) -> AsyncIterator[S3Proxy]:
    """A proxy before the server."""
    async with S3Proxy(s3_environ.port) as proxy:
        yield proxy
