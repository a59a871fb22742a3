"""Verification of a token: rfc3161-client checks signature and chain, this module the rest."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from rfc3161_client import (
    Accuracy,
    TimeStampResponse,
    TimeStampTokenInfo,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from ledger.errors import TimestampError
from ledger.timestamp import TOKEN_BYTES_MAX, VerifiedTimestamp, der
from ledger.timestamp.exchange import oid

CA_CERTIFICATES_MAX: Final = 32
_CONTEXT_0: Final = 0xA0  # SignedData.certificates, and SignerInfo.signedAttrs
_GRANTED_STATUS: Final = bytes.fromhex("3003020100")
# Content bytes of id-aa-signingCertificate (RFC 2634) and id-aa-signingCertificateV2 (RFC 5035).
_SIGNING_CERTIFICATE: Final = bytes.fromhex("2a864886f70d010910020c")
_SIGNING_CERTIFICATE_V2: Final = bytes.fromhex("2a864886f70d010910022f")
_DIGESTS: Final = {
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
}

_VERSIONS: Final = {b"\x03", b"\x04", b"\x05"}
"""Versions of SignedData whose content is not plain data (RFC 5652, section 5.1)."""
# Valid values of SignerInfo.signatureAlgorithm, with the type of key and the digest (None: any).
# The signature does not cover this field, and rfc3161-client uses the key's type instead.
_RSA: Final = "2a864886f70d0101"
_ECDSA: Final = "2a8648ce3d0403"
_SIGNATURES: Final[dict[bytes, tuple[type, str | None]]] = {
    bytes.fromhex(name): use
    for name, use in {
        f"{_RSA}01": (RSAPublicKey, None),
        f"{_RSA}0a": (RSAPublicKey, None),  # RSASSA-PSS, with its parameters
        f"{_RSA}0b": (RSAPublicKey, "sha256"),
        f"{_RSA}0c": (RSAPublicKey, "sha384"),
        f"{_RSA}0d": (RSAPublicKey, "sha512"),
        "2a8648ce3d0201": (EllipticCurvePublicKey, None),
        f"{_ECDSA}02": (EllipticCurvePublicKey, "sha256"),
        f"{_ECDSA}03": (EllipticCurvePublicKey, "sha384"),
        f"{_ECDSA}04": (EllipticCurvePublicKey, "sha512"),
        "2b6570": (Ed25519PublicKey, None),
        "2b6571": (Ed448PublicKey, None),
    }.items()
}

_DIGEST_NAMES: Final = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}


def verify(
    token: bytes, message: bytes, ca_pem: bytes, policy: str | None, nonce: int | None
) -> VerifiedTimestamp:
    """See :func:`ledger.timestamp.verify`."""
    if len(token) > TOKEN_BYTES_MAX:
        raise _too_long(token)
    verifier = VerifierBuilder(
        policy_id=None if policy is None else oid(policy),
        roots=list(ca_certificates(ca_pem)),
        nonce=nonce,
    ).build()
    with _own_errors():
        token = sorted_certificates(token)
        response = decode_timestamp_response(der.wrapped(der.SEQUENCE, _GRANTED_STATUS + token))
        verifier.verify_message(response, message)
        signer = _signer(response)
        info = response.tst_info
        verified = VerifiedTimestamp(
            gen_time=info.gen_time.astimezone(UTC),
            accuracy=_accuracy(info),
            serial=info.serial_number,
            policy=info.policy.dotted_string,
            authority=signer.subject.rfc4514_string(),
        )
        _check_signing_certificate(token, signer)
        _check_form(token, signer)
    return verified


def stated_time(token: bytes, message: bytes | None) -> datetime:
    """See :func:`ledger.timestamp.stated_time`."""
    if len(token) > TOKEN_BYTES_MAX:
        raise _too_long(token)
    with _own_errors():
        token = sorted_certificates(token)
        response = decode_timestamp_response(der.wrapped(der.SEQUENCE, _GRANTED_STATUS + token))
        imprint = response.tst_info.message_imprint
        if message is not None and imprint.message != _digest(message, imprint.hash_algorithm):
            raise TimestampError("the timestamp covers another message")
        return response.tst_info.gen_time.astimezone(UTC)


def _too_long(token: bytes) -> TimestampError:
    return TimestampError(
        f"the token has {len(token)} bytes; at most {TOKEN_BYTES_MAX} are allowed"
    )


def _digest(message: bytes, algorithm: x509.ObjectIdentifier) -> bytes | None:
    """Return the message's digest; None for an algorithm that is not SHA-2."""
    name = _DIGEST_NAMES.get(algorithm.dotted_string)
    return None if name is None else hashlib.new(name, message).digest()


@lru_cache(maxsize=8)
def ca_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read the certificates of a PEM file. Raises TimestampError unless there is at least one."""
    try:
        found = tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise TimestampError(
            "the authority's CA certificates can't be read; give a PEM file with at least one "
            "certificate (QUIRE_TSA_CA)"
        ) from None
    if len(found) > CA_CERTIFICATES_MAX:
        raise TimestampError(
            f"{len(found)} CA certificates are too many (at most {CA_CERTIFICATES_MAX}); give "
            "those of the trusted authority only"
        )
    return found


def sorted_certificates(token: bytes) -> bytes:
    """Return the token with its certificates in the order of DER.

    They are a set, which DER sorts (X.690 section 11.6), but large authorities and
    OpenSSL do not sort them, and rfc3161-client refuses that. No signature covers
    their order.
    """
    signed_data = _signed_data(token)
    for element in signed_data.parts():
        if element.tag == _CONTEXT_0:
            ordered = sorted(part.encoded for part in element.parts())
            return token[: element.inside] + b"".join(ordered) + token[element.end :]
    return token


@contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except VerificationError as error:
        raise TimestampError(f"the timestamp does not verify: {error}") from error
    except (ValueError, TypeError, LookupError, OverflowError, StopIteration) as error:
        # These come from parsing; their texts name Python's or Rust's values.
        raise TimestampError("the timestamp does not verify: its structure is not valid") from error


def _signer(response: TimeStampResponse) -> x509.Certificate:
    """Return the certificate that the signature names; rfc3161-client has checked it exists."""
    (info,) = response.signed_data.signer_infos
    for encoded in response.signed_data.certificates:
        certificate = x509.load_der_x509_certificate(encoded)
        if (certificate.issuer, certificate.serial_number) == (info.issuer, info.serial_number):
            return certificate
    raise VerificationError("the token does not contain the signer's certificate")


def _accuracy(info: TimeStampTokenInfo) -> timedelta | None:
    stated = cast("Accuracy | None", info.accuracy)  # None, whatever its types say
    if stated is None:
        return None
    return timedelta(
        seconds=stated.seconds or 0,
        milliseconds=stated.millis or 0,
        microseconds=stated.micros or 0,
    )


def _signed_data(token: bytes) -> der.Element:
    """Return the SignedData of a ContentInfo (RFC 5652 sections 3 and 5.1)."""
    parts = der.whole(token).parts()
    if len(parts) != 2:
        raise TimestampError("the token is not signed content (CMS)")
    inner = parts[1].parts()
    if len(inner) != 1:
        raise TimestampError("the token is not signed content (CMS)")
    return inner[0]


def _check_signing_certificate(token: bytes, signer: x509.Certificate) -> None:
    """Compare the signer's certificate with its hash in the signed attributes.

    RFC 3161 section 2.4.1 requires it: otherwise another certificate for the same
    key, with another name or validity, could replace it.
    """
    for kind, values in _signed_attributes(token):
        if kind in {_SIGNING_CERTIFICATE, _SIGNING_CERTIFICATE_V2}:
            algorithm, expected = _first_hash(values, kind)
            encoded = signer.public_bytes(Encoding.DER)
            found = hashlib.new(algorithm, encoded, usedforsecurity=False).digest()
            if not hmac.compare_digest(found, expected):
                raise TimestampError("the timestamp was signed with another certificate")
            return
    raise TimestampError("the timestamp does not name the certificate it was signed with")


def _check_form(token: bytes, signer: x509.Certificate) -> None:
    """Check the fields that no signature covers, versions and algorithm, against the signer."""
    signed_data = _signed_data(token).parts()
    (signer_info,) = signed_data[-1].parts()
    version, identifier, digest, *rest = signer_info.parts()
    by_issuer = identifier.tag == der.SEQUENCE
    if version.content != (b"\x01" if by_issuer else b"\x03") or (
        signed_data[0].content not in _VERSIONS
    ):
        raise TimestampError("the timestamp's version does not fit its form")
    named = next(part for part in rest if part.tag == der.SEQUENCE).parts()[0]
    key_type, of_digest = _SIGNATURES.get(named.content, (None, None))
    if named.tag != der.OBJECT_IDENTIFIER or key_type is None:
        raise TimestampError("the timestamp names an unknown signature algorithm")
    found = _DIGESTS.get(digest.parts()[0].content)
    if not isinstance(signer.public_key(), key_type) or of_digest not in {None, found}:
        raise TimestampError("the timestamp names another signature algorithm than the signer's")


def _signed_attributes(token: bytes) -> Iterator[tuple[bytes, der.Element]]:
    """Yield the signed attributes: the content of their type, and their values."""
    (signer_info,) = _signed_data(token).parts()[-1].parts()
    for element in signer_info.parts():
        if element.tag == _CONTEXT_0:
            for attribute in element.parts():
                kind, values = attribute.parts()
                yield kind.content, values


def _first_hash(values: der.Element, kind: bytes) -> tuple[str, bytes]:
    """Return algorithm and value of the first certificate hash, which is the signer's."""
    (signing_certificate,) = values.parts()
    identifier = signing_certificate.parts()[0].parts()[0].parts()
    if kind == _SIGNING_CERTIFICATE:
        return "sha1", identifier[0].content
    if identifier[0].tag == der.OCTET_STRING:
        return "sha256", identifier[0].content
    algorithm = _DIGESTS.get(identifier[0].parts()[0].content)
    if algorithm is None:
        raise TimestampError("the timestamp identifies its certificate by a hash that is not SHA-2")
    return algorithm, identifier[1].content
