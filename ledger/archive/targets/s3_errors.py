"""Turns the errors of object storage, and of the connection to it, into ArchiveErrors."""

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
    ResponseParserError,  # an answer that was cut off or changed in transit
    asyncio.TimeoutError,
    OSError,
)
_MISSING = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})
# Faults that may pass. Among them the codes for bytes that changed in transit: a second request
# may arrive intact.
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
def explained(where: str, action: str) -> Iterator[None]:
    """Turn errors of the block into ArchiveErrors; `where` names the bucket, `action` the request."""
    try:
        yield
    except ClientError as error:
        raise _answered(where, action, error) from error
    except _NO_CREDENTIALS as error:
        raise ArchiveDenied(
            f"{where}: no usable credentials to {action} ({error}). Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or give this process a role"
        ) from error
    except SSLError as error:
        raise ArchiveMisconfigured(
            f"{where}: no TLS connection to {action} ({error}). Set AWS_CA_BUNDLE to a file with "
            "the certificates to trust"
        ) from error
    except _NO_CONNECTION as error:
        raise ArchiveUnavailable(
            f"{where} could not be reached to {action}: "
            f"{error or 'the connection ended without an answer'}"
        ) from error
    except BotoCoreError as error:
        raise ArchiveMisconfigured(f"{where}: can't {action}: {error}") from error


def status_of(error: ClientError) -> int:
    """Return the HTTP status of an answer."""
    return int(_metadata(error).get("HTTPStatusCode", 0))


def _metadata(error: ClientError) -> dict[str, Any]:
    metadata: dict[str, Any] = error.response.get("ResponseMetadata", {})
    return metadata


def _answered(where: str, action: str, error: ClientError) -> ArchiveError:
    detail = error.response.get("Error", {})
    code, status = str(detail.get("Code", "")), status_of(error)
    reason = f"{code or status}: {detail.get('Message', '')}"
    if code in _PASSING or status in {409, 412, 429} or (status >= 500 and status != 501):
        return ArchiveUnavailable(f"{where}: could not {action} ({reason}). Try again later")
    if code in _DENIED or status in {401, 403}:
        return ArchiveDenied(
            f"{where}: not allowed to {action} ({reason}). Check the credentials, the clock, and "
            "the bucket's policy"
        )
    if code in _MISSING:
        return ArchiveObjectMissing(f"{where}: could not {action}: there is no such object")
    return ArchiveMisconfigured(
        f"{where}: can't {action} ({reason}). Check bucket, region and endpoint"
    )
