"""Sealed payloads and wrapped keys."""

import hmac
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from ledger import sealing
from ledger.errors import MalformedSealedPayload, QuireError, SealingError
from tests.support.trails import flips, raises_only

keys = st.binary(min_size=32, max_size=32)
KEY, OTHER, SALT = b"k" * 32, b"o" * 32, bytes(range(32))
AAD = sealing.payload_aad("acme", "ref:abc")
SEALED = sealing.seal_payload(sealing.DataKey.of(KEY), SALT, AAD, b'{"a":1}')


@given(keys, keys, st.binary(max_size=300))
def test_a_sealed_payload_opens(key: bytes, salt: bytes, plaintext: bytes) -> None:
    sealed = sealing.seal_payload(sealing.DataKey.of(key), salt, AAD, plaintext)
    assert len(sealed) == len(plaintext) + sealing.SEALED_OVERHEAD_BYTES
    assert sealing.sealed_salt(sealed) == salt
    assert sealing.open_payload(key, AAD, sealed) == plaintext
    own = sealing.payload_key(key, salt)
    assert sealing.open_with_payload_key(own, AAD, sealed) == plaintext


def test_it_opens_only_with_its_key_org_and_ref() -> None:
    with pytest.raises(SealingError, match="another key"):
        sealing.open_payload(OTHER, AAD, SEALED)
    for org, ref in (
        ("acme2", "ref:abc"),
        ("acme", "ref:abd"),
        ("acme", "org"),
        ("acm", "eref:abc"),
    ):
        with pytest.raises(SealingError, match="altered or moved"):
            sealing.open_payload(KEY, sealing.payload_aad(org, ref), SEALED)


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00")),
    st.text(st.characters(codec="utf-8")),
)
def test_associated_data_distinguishes_org_and_ref(org: str, ref: str) -> None:
    aad = sealing.payload_aad(org, ref)
    head, org_bytes, ref_bytes = aad.split(b"\x00", 2)
    assert (head, org_bytes, ref_bytes) == (b"quire/v1/payload", org.encode(), ref.encode())


def test_every_changed_bit_of_a_sealed_payload_is_refused() -> None:
    for changed in flips(SEALED):
        with pytest.raises((SealingError, MalformedSealedPayload)):
            sealing.open_payload(KEY, AAD, changed)


def test_a_payload_key_opens_nothing_changed_but_the_salt_it_replaces() -> None:
    # A holder of the payload's own key needs no salt; the leaf's digest covers the payload.
    own = sealing.payload_key(KEY, SALT)
    salt_bits = range(8, 8 * (1 + sealing.SALT_BYTES))
    for bit, changed in enumerate(flips(SEALED)):
        if bit in salt_bits:
            assert sealing.open_with_payload_key(own, AAD, changed) == b'{"a":1}'
        else:
            with pytest.raises((SealingError, MalformedSealedPayload)):
                sealing.open_with_payload_key(own, AAD, changed)


def test_truncated_or_longer_bytes_are_refused() -> None:
    for end in range(len(SEALED)):
        with pytest.raises((SealingError, MalformedSealedPayload)):
            sealing.open_payload(KEY, AAD, SEALED[:end])
    with pytest.raises(SealingError):
        sealing.open_payload(KEY, AAD, SEALED + b"\x00")


def test_the_commitment_protects_a_payload_that_opens_under_two_keys() -> None:
    # A dishonest server could make bytes whose ciphertext opens under one key while the
    # commitment is to another key. Neither key opens them.
    own = sealing.payload_key(OTHER, SALT)
    forged = SEALED[: sealing.HEADER_BYTES] + AESGCM(own).encrypt(bytes(12), b"lie", AAD)
    with pytest.raises(SealingError, match="another key"):
        sealing.open_with_payload_key(own, AAD, forged)
    with pytest.raises(SealingError, match="altered or moved"):
        sealing.open_payload(KEY, AAD, forged)


@pytest.mark.parametrize("length", [0, 5, 16, 24, 31, 33])
def test_a_payload_key_has_32_bytes_whatever_the_commitment_says(length: int) -> None:
    key = b"k" * length
    committed = sha256(b"quire/v1/payload-key-commitment\x00" + key).digest()
    with pytest.raises(SealingError):
        sealing.open_with_payload_key(key, AAD, b"\x01" + SALT + committed + bytes(20))


@given(keys, keys)
def test_a_prepared_data_key_gives_the_same_payload_keys(key: bytes, salt: bytes) -> None:
    assert sealing.DataKey.of(key).payload_key(salt) == sealing.payload_key(key, salt)


def test_each_salt_has_its_own_key() -> None:
    one, two = sealing.payload_key(KEY, SALT), sealing.payload_key(KEY, b"s" * 32)
    assert one != two
    assert one == hmac.digest(KEY, b"quire/v1/payload-key\x00" + SALT, "sha256")
    with pytest.raises(SealingError):
        sealing.open_with_payload_key(two, AAD, SEALED)


@given(keys, st.binary(max_size=200))
def test_open_payload_raises_only_its_own_errors(key: bytes, data: bytes) -> None:
    raises_only(QuireError, lambda: sealing.open_payload(key, AAD, data))
    raises_only(QuireError, lambda: sealing.open_payload(key, AAD, b"\x01" + data))


@given(
    keys, st.binary(min_size=12, max_size=12), st.binary(max_size=64), st.text("abc:/", max_size=9)
)
def test_a_wrapped_key_unwraps(key: bytes, nonce: bytes, inner: bytes, purpose: str) -> None:
    wrapped = sealing.wrap_key(key, nonce, inner, purpose)
    assert wrapped[:12] == nonce
    assert len(wrapped) == 12 + len(inner) + 16
    assert sealing.unwrap_key(key, wrapped, purpose) == inner


def test_a_wrapped_key_opens_only_as_it_was_wrapped() -> None:
    wrapped = sealing.wrap_key(KEY, b"n" * 12, OTHER, "org:1")
    for changed in flips(wrapped):
        with pytest.raises(SealingError):
            sealing.unwrap_key(KEY, changed, "org:1")
    with pytest.raises(SealingError, match="QUIRE_MASTER_KEY"):
        sealing.unwrap_key(OTHER, wrapped, "org:1")
    with pytest.raises(SealingError):
        sealing.unwrap_key(KEY, wrapped, "org:2")


@given(st.binary(max_size=40), st.binary(max_size=80))
def test_unwrap_key_raises_only_its_own_errors(key: bytes, data: bytes) -> None:
    raises_only(QuireError, lambda: sealing.unwrap_key(key, data, "org:1"))


def test_derived_keys_differ_by_purpose() -> None:
    assert sealing.derive(KEY, "a") == hmac.digest(KEY, b"quire/v1/derive\x00a", "sha256")
    assert sealing.derive(KEY, "a") != sealing.derive(KEY, "b")
    assert sealing.org_data_key(KEY) == sealing.derive(KEY, "org-data")
