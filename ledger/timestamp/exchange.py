"""The two messages of RFC 3161: the request and the response."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Final

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

from ledger.errors import TimestampError
from ledger.timestamp import NONCE_BITS, TOKEN_BYTES_MAX, der

_SHA256: Final = ObjectIdentifier("2.16.840.1.101.3.4.2.1")
_GRANTED: Final = 0
_STATUS: Final = {
    1: "granted with modifications",
    2: "rejected",
    3: "waiting",
    4: "revocation imminent",
    5: "revoked",
}
# PKIFailureInfo, RFC 3161 section 2.4.2: bit number to meaning.
_FAILURES: Final = {
    0: "it does not know the hash algorithm",
    2: "it does not permit this request",
    5: "it could not read the request",
    14: "its source of time is not available",
    15: "it does not know the policy; check QUIRE_TSA_POLICY",
    16: "it does not know the extension",
    17: "it does not have the requested additional information",
    25: "it had an internal failure",
}
_REASONS_MAX: Final = 200


@asn1.sequence
class _AlgorithmIdentifier:
    algorithm: ObjectIdentifier
    parameters: asn1.Null


@asn1.sequence
class _MessageImprint:
    hash_algorithm: _AlgorithmIdentifier
    hashed_message: bytes


@asn1.sequence
class _TimeStampReq:
    version: int
    message_imprint: _MessageImprint
    req_policy: ObjectIdentifier | None
    nonce: int | None
    cert_req: Annotated[bool, asn1.Default(value=False)]


@asn1.sequence
class _PKIStatusInfo:
    status: int
    status_string: list[str] | None
    fail_info: asn1.BitString | None


def query(message: bytes, nonce: int, policy: str | None) -> bytes:
    """See :func:`ledger.timestamp.query`."""
    assert 0 <= nonce < 1 << NONCE_BITS
    algorithm = _AlgorithmIdentifier(algorithm=_SHA256, parameters=asn1.Null())
    imprint = _MessageImprint(hash_algorithm=algorithm, hashed_message=sha256(message).digest())
    return asn1.encode_der(
        _TimeStampReq(
            version=1,
            message_imprint=imprint,
            req_policy=None if policy is None else oid(policy),
            nonce=nonce,
            cert_req=True,
        )
    )


def oid(dotted: str) -> ObjectIdentifier:
    """Parse an object identifier. Raises TimestampError."""
    try:
        return ObjectIdentifier(dotted)
    except ValueError:
        raise TimestampError(
            f"{dotted!r} is not an object identifier; write a policy like 1.3.6.1.4.1.13762.3"
        ) from None


def granted(response: bytes) -> bytes:
    """See :func:`ledger.timestamp.granted`."""
    if len(response) > TOKEN_BYTES_MAX:
        raise TimestampError(
            f"the response has {len(response)} bytes; at most {TOKEN_BYTES_MAX} are allowed"
        )
    outer = der.whole(response)
    parts = outer.parts()
    if outer.tag != der.SEQUENCE or not 1 <= len(parts) <= 2:
        raise TimestampError(
            "the response is not a timestamp response (RFC 3161); check that the URL is the "
            "authority's"
        )
    status = _status(parts[0].encoded)
    if status.status != _GRANTED or len(parts) == 1:
        raise TimestampError(f"the authority granted no token: {_reasons(status)}")
    return parts[1].encoded


def _status(encoded: bytes) -> _PKIStatusInfo:
    try:
        return asn1.decode_der(_PKIStatusInfo, encoded)
    except ValueError:
        raise TimestampError("the status of the response can't be read") from None


def _reasons(status: _PKIStatusInfo) -> str:
    reasons = [_STATUS.get(status.status, f"status {status.status}")]
    if status.fail_info is not None:
        reasons += [text for bit, text in _FAILURES.items() if _is_set(status.fail_info, bit)]
    reasons += status.status_string or []
    printable = "".join(char if char.isprintable() else " " for char in "; ".join(reasons))
    return printable[:_REASONS_MAX]


def _is_set(bits: asn1.BitString, number: int) -> bool:
    octets = bits.as_bytes()
    return number < 8 * len(octets) and bool(octets[number // 8] & 0x80 >> number % 8)
