"""What object storage and the way to it answer, in terms of this project's errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import ClientError as TransportError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's
    CredentialRetrievalError,
    HTTPClientError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSLError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from botocore.parsers import ResponseParserError

from ledger.errors import (
    ArchiveDenied,
    ArchiveError,
    ArchiveMisconfigured,
    ArchiveObjectMissing,
    ArchiveUnavailable,
)

_NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
_NO_CONNECTION = (
    TransportError,
    ConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    ResponseParserError,  # an answer cut off or changed on its way
    asyncio.TimeoutError,
    OSError,
)
_MISSING = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})
# Among them what a server says of bytes that changed on their way: sent again, they may not.
_PASSING = frozenset(
    {
        "BadDigest",
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "OperationAborted",
        "PreconditionFailed",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    }
)
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccountProblem",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)


@contextmanager
def explained(where: str, what: str) -> Iterator[None]:
    """Turn whatever goes wrong within into an ArchiveError; `where` is the bucket."""
    try:
        yield
    except ClientError as error:
        raise _answered(where, what, error) from error
    except _NO_CREDENTIALS as error:
        raise ArchiveDenied(
            f"{where}: no usable credentials to {what} ({error}). Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or whatever else gives this process its role"
        ) from error
    except SSLError as error:
        raise ArchiveMisconfigured(
            f"{where}: no TLS connection to {what} ({error}). AWS_CA_BUNDLE names the "
            "certificates to trust"
        ) from error
    except _NO_CONNECTION as error:
        raise ArchiveUnavailable(
            f"{where} could not be reached to {what}: {error or type(error).__name__}"
        ) from error
    except BotoCoreError as error:
        raise ArchiveMisconfigured(f"{where}: can't {what}: {error}") from error


def status_of(error: ClientError) -> int:
    """The HTTP status of an answer."""
    return int(_metadata(error).get("HTTPStatusCode", 0))


def _metadata(error: ClientError) -> dict[str, Any]:
    metadata: dict[str, Any] = error.response.get("ResponseMetadata", {})
    return metadata


def _answered(where: str, what: str, error: ClientError) -> ArchiveError:
    detail = error.response.get("Error", {})
    code, status = str(detail.get("Code", "")), status_of(error)
    told = f"{code or status}: {detail.get('Message', '')}"
    if code in _PASSING or status in {409, 412, 429} or (status >= 500 and status != 501):
        return ArchiveUnavailable(f"{where} did not {what} ({told}); it may later")
    if code in _DENIED or status in {401, 403}:
        return ArchiveDenied(
            f"{where} refused to {what} ({told}). Check the credentials, the clock, and what "
            "the bucket's policy allows them"
        )
    if code in _MISSING:
        return ArchiveObjectMissing(f"{where}: nothing to {what}")
    return ArchiveMisconfigured(f"{where} can't {what} ({told}). Check bucket, region and endpoint")
