"""Timestamps of RFC 3161: requests to a time-stamping authority, and verification of its tokens.

A token states that the authority saw the SHA-256 digest of a message at a time.
:func:`query` makes a request, :func:`granted` extracts the token from the response,
:func:`verify` checks it, through rfc3161-client, against the certificates that the
caller trusts. Only the token is stored (the ``TimeStampToken`` of section 2.4.2,
DER), which ``openssl ts -verify -token_in`` reads as well.

The modules for ASN.1, X.509 and rfc3161-client are imported on first use, so that a
verifier without tokens does not pay for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

TOKEN_BYTES_MAX: Final = 1 << 16
"""Tokens have 1 to 8 KB, depending on the number of their certificates."""
NONCE_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class VerifiedTimestamp:
    """The content of a verified token.

    ``gen_time`` is UTC; ``accuracy`` is its maximum error (None if not stated);
    ``policy`` is an OID in dotted form; ``authority`` is the subject of the signing
    certificate (RFC 4514); ``serial`` is unique within that authority.
    """

    gen_time: datetime
    accuracy: timedelta | None
    serial: int
    policy: str
    authority: str


def query(message: bytes, nonce: int, policy: str | None = None) -> bytes:
    """Return the DER of a TimeStampReq (RFC 3161 section 2.4.1) for SHA-256 of a message.

    It requests that the token include the authority's certificate. ``nonce`` is a
    random number of up to 64 bits, ``policy`` an OID in dotted form. Raises
    TimestampError for an invalid policy.
    """
    from ledger.timestamp.exchange import query  # noqa: PLC0415 - see the module's docstring

    return query(message, nonce, policy)


def granted(response: bytes) -> bytes:
    """Return the unverified token of a TimeStampResp (section 2.4.2).

    Raises TimestampError, with the authority's own reason, if it refused a token, and
    for bytes that are not a response.
    """
    from ledger.timestamp.exchange import granted  # noqa: PLC0415

    return granted(response)


def verify(
    token: bytes,
    message: bytes,
    ca_pem: bytes,
    *,
    policy: str | None = None,
    nonce: int | None = None,
) -> VerifiedTimestamp:
    """Verify a token over a message completely, and return its content.

    ``ca_pem`` holds the trusted root and any intermediate certificates; ``policy``
    and ``nonce``, if given, must be the token's. It checks the signature, the
    certificate chain as of the token's time, the critical and only purpose
    timeStamping, the signing certificate's hash (RFC 5035) and the message's digest
    (SHA-256, SHA-384 or SHA-512). Raises TimestampError with the reason.
    """
    from ledger.timestamp.verification import verify  # noqa: PLC0415

    return verify(token, message, ca_pem, policy, nonce)


def stated_time(token: bytes, message: bytes | None = None) -> datetime:
    """Return the time (UTC) that a token states, without verifying it: it proves nothing.

    Raises TimestampError for bytes that are not a token, or a token over another message.
    """
    from ledger.timestamp.verification import stated_time  # noqa: PLC0415

    return stated_time(token, message)


def check_trust(ca_pem: bytes, policy: str | None = None) -> None:
    """Raise TimestampError for certificates, or a policy, that :func:`verify` can't use."""
    from ledger.timestamp.exchange import oid  # noqa: PLC0415
    from ledger.timestamp.verification import ca_certificates  # noqa: PLC0415

    ca_certificates(ca_pem)
    if policy is not None:
        oid(policy)
