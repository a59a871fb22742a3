"""Timestamps of RFC 3161: what a time-stamping authority is asked, and what its token proves.

A token says that the authority saw the SHA-256 digest of a message at a time.
:func:`query` asks for one, :func:`granted` takes the token out of the answer,
:func:`verify` checks it against the certificates that the caller trusts, through
rfc3161-client. What is kept is the token alone (the ``TimeStampToken`` of
section 2.4.2, DER), which ``openssl ts -verify -token_in`` reads as well.

Nothing of ASN.1, X.509 and rfc3161-client is imported before it is needed: a
verifier that meets no token does not wait for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

TOKEN_BYTES_MAX: Final = 1 << 16
"""Tokens have 1 to 8 KB, by the number of certificates in them."""
NONCE_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class VerifiedTimestamp:
    """What a verified token says.

    ``gen_time`` is UTC; ``accuracy`` is how far it may be off, where the authority
    says so; ``policy`` is an OID in dotted form; ``authority`` is the subject of the
    certificate that signed (RFC 4514); ``serial`` is unique to that authority.
    """

    gen_time: datetime
    accuracy: timedelta | None
    serial: int
    policy: str
    authority: str


def query(message: bytes, nonce: int, policy: str | None = None) -> bytes:
    """The DER of a TimeStampReq (RFC 3161 section 2.4.1) for SHA-256 of a message.

    It asks for the authority's certificate to be included. ``nonce`` is a random
    number of up to 64 bits, ``policy`` an OID in dotted form. Raises TimestampError
    for a policy that is none.
    """
    from ledger.timestamp.exchange import query  # noqa: PLC0415 - see the module's docstring

    return query(message, nonce, policy)


def granted(response: bytes) -> bytes:
    """The token in a TimeStampResp (section 2.4.2), as it came: not verified yet.

    Raises TimestampError with the authority's own words when it grants none, and
    for bytes that are no response.
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
    """Verify a token over a message, wholly, and return what it says.

    ``ca_pem`` holds the trusted root and any intermediate certificates; ``policy``
    and ``nonce``, where given, must be the token's. Checked are the signature, the
    certificate chain as of the token's time, the critical and only purpose
    timeStamping, the signing certificate's hash (RFC 5035) and the message's digest
    (SHA-256, SHA-384 or SHA-512). Raises TimestampError with the reason.
    """
    from ledger.timestamp.verification import verify  # noqa: PLC0415

    return verify(token, message, ca_pem, policy, nonce)


def stated_time(token: bytes, message: bytes | None = None) -> datetime:
    """The time (UTC) that a token states, which proves nothing: nobody verified it here.

    Raises TimestampError for bytes that are no token, or one that is not over the message.
    """
    from ledger.timestamp.verification import stated_time  # noqa: PLC0415

    return stated_time(token, message)


def check_trust(ca_pem: bytes, policy: str | None = None) -> None:
    """Raises TimestampError for certificates, or a policy, that :func:`verify` can't use."""
    from ledger.timestamp.exchange import oid  # noqa: PLC0415
    from ledger.timestamp.verification import ca_certificates  # noqa: PLC0415

    ca_certificates(ca_pem)
    if policy is not None:
        oid(policy)
