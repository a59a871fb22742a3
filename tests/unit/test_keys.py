"""Signing keys and the keyring file."""

import base64
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import (
    AmbiguousActiveKey,
    KeyringError,
    MissingKey,
    QuireError,
    UnknownKey,
    WeakKey,
)
from ledger.keys import (
    MAX_KEYS,
    SigningKey,
    SigningKeyring,
    dump_keyring,
    env_key_id,
    parse_keyring,
)
from tests.support.trails import flips, raises_only

ONE, TWO = SigningKey("one", b"1" * 32), SigningKey("two", b"2" * 40)
secrets = st.binary(min_size=32, max_size=200)


def file_of(*records: dict[str, object]) -> bytes:
    return json.dumps({"keys": records}).encode()


def record(key_id: str, secret: bytes, active: bool = False) -> dict[str, object]:
    return {"id": key_id, "secret": base64.b64encode(secret).decode(), "active": active}


@given(secrets, st.binary(max_size=100))
def test_a_signature_is_hmac_sha256(secret: bytes, message: bytes) -> None:
    key = SigningKey("k", secret)
    assert key.sign(message) == hmac.digest(secret, message, "sha256")
    assert key.verify(message, key.sign(message))


@pytest.mark.parametrize(
    ("message", "tag"),
    [
        (
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            b"This is a test using a larger than block-size key and a larger than "
            b"block-size data. The key needs to be hashed before being used by the HMAC "
            b"algorithm.",
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ],
)
def test_the_vectors_of_rfc_4231_whose_key_is_long_enough(message: bytes, tag: str) -> None:
    # Test cases 6 and 7, sections 4.7 and 4.8; the keys of 1 to 5 are under 32 bytes.
    assert SigningKey("rfc4231", b"\xaa" * 131).sign(message).hex() == tag


def test_every_changed_bit_of_a_signature_is_noticed() -> None:
    signature = ONE.sign(b"h" * 32)
    assert not any(ONE.verify(b"h" * 32, changed) for changed in flips(signature))
    assert not any(ONE.verify(changed, signature) for changed in flips(b"h" * 32))
    assert not ONE.verify(b"h" * 32, signature[:31])
    assert not ONE.verify(b"h" * 32, b"")
    assert not TWO.verify(b"h" * 32, signature)


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_weak_key_is_refused_with_advice(length: int) -> None:
    with pytest.raises(WeakKey, match=r"at least 32\. Make one with"):
        SigningKeyring.from_secret(b"x" * length)
    with pytest.raises(WeakKey):
        parse_keyring(file_of(record("weak", b"x" * length, active=True)))


@pytest.mark.parametrize("key_id", ["", "-a", "A", "a b", "a/b", "ä", "a" * 65, "a\n", "a\x00"])
def test_key_ids_are_plain(key_id: str) -> None:
    with pytest.raises(KeyringError, match="1 to 64"):
        SigningKey(key_id, b"1" * 32)


def test_exactly_one_key_is_active() -> None:
    assert SigningKeyring([ONE, TWO], ["two"]).active is TWO
    with pytest.raises(AmbiguousActiveKey, match="but 2 are: one, two"):
        SigningKeyring([ONE, TWO], ["one", "two"])
    with pytest.raises(AmbiguousActiveKey, match="but 0 are"):
        SigningKeyring([ONE, TWO], [])
    with pytest.raises(AmbiguousActiveKey):
        parse_keyring(file_of(record("a", b"1" * 32, True), record("b", b"2" * 32, True)))


def test_an_active_key_must_be_in_the_ring() -> None:
    with pytest.raises(UnknownKey) as caught:
        SigningKeyring([ONE], ["two"])
    assert caught.value.key_id == "two"


def test_an_empty_ring_is_a_missing_key() -> None:
    with pytest.raises(MissingKey):
        SigningKeyring([], [])
    with pytest.raises(MissingKey):
        parse_keyring(b'{"keys": []}')


def test_a_duplicate_id_is_refused() -> None:
    with pytest.raises(KeyringError, match="two keys with the id"):
        SigningKeyring([ONE, SigningKey("one", b"x" * 32)], ["one"])
    with pytest.raises(KeyringError, match="two keys with the id"):
        SigningKeyring([ONE], ["one"]).rotated(SigningKey("one", b"x" * 32))


def test_rotation_keeps_every_older_key() -> None:
    old = SigningKeyring([ONE], ["one"])
    new = old.rotated(TWO)
    assert new.active is TWO
    assert new.ids() == ["one", "two"]
    assert new.get("one").verify(b"h" * 32, ONE.sign(b"h" * 32))
    assert old.active is ONE
    assert old.ids() == ["one"]


def test_an_extra_key_only_verifies() -> None:
    ring = SigningKeyring([ONE], ["one"]).with_key(TWO)
    assert ring.active is ONE
    assert ring.get("two") is TWO
    assert ring.with_key(SigningKey("two", TWO.secret)) is ring


def test_an_extra_key_never_passes_for_another_of_its_id() -> None:
    with pytest.raises(KeyringError, match="another secret"):
        SigningKeyring([ONE], ["one"]).with_key(SigningKey("one", b"x" * 32))


def test_a_ring_never_outgrows_its_file() -> None:
    keys = [SigningKey(f"k{n}", b"1" * 32) for n in range(MAX_KEYS)]
    full = SigningKeyring(keys, ["k0"])
    assert parse_keyring(dump_keyring(full)).ids() == full.ids()
    with pytest.raises(KeyringError, match="at most"):
        full.rotated(TWO)


def test_the_id_of_a_bare_secret_is_stable() -> None:
    assert env_key_id(b"1" * 32) == "env-8dc2a598d983"
    assert SigningKeyring.from_secret(b"1" * 32).active.key_id == env_key_id(b"1" * 32)
    assert SigningKeyring.from_secret(b"1" * 32, "named").active.key_id == "named"


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True), secrets, min_size=1
    )
)
def test_a_keyring_file_reads_back(by_id: dict[str, bytes]) -> None:
    active = next(iter(by_id))
    ring = SigningKeyring([SigningKey(i, s) for i, s in by_id.items()], [active])
    again = parse_keyring(dump_keyring(ring))
    assert [(key.key_id, key.secret) for key in again.keys()] == list(by_id.items())
    assert again.active.key_id == active


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [{"id": "a"}]}',
        b'{"keys": [{"id": "a", "secret": "!!!", "active": true}]}',
        b'{"keys": [{"id": "a", "secret": "\xc3\xa4", "active": true}]}',
        b'{"keys": [], "extra": 1}',
        b"\xff",
        b"[" * 100_000,
        b'{"keys": ' + b"[" * 100_000,
    ],
)
def test_other_bytes_are_not_a_keyring(data: bytes) -> None:
    with pytest.raises(KeyringError):
        parse_keyring(data)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_parse_keyring_raises_only_its_own_errors(data: bytes) -> None:
    raises_only(QuireError, lambda: parse_keyring(data))


def test_no_secret_shows_in_a_repr() -> None:
    secret = b"do-not-show-this-secret-anywhere"
    ring = SigningKeyring.from_secret(secret)
    shown = repr(ring) + repr(ring.active) + str(ring.active) + repr(ring.keys())
    assert "do-not-show" not in shown
    assert repr(ring.active) == f"SigningKey({ring.active.key_id!r})"


@pytest.mark.parametrize(
    "file",
    [
        file_of(record("a", b"do-not-show-this")),
        file_of(record("a", b"do-not-show-this" * 2), record("a", b"do-not-show-this" * 2)),
        b'{"keys": [{"id": "a", "secret": "do-not-show-this", "active": 1}]}',
        b'{"keys": [{"id": "a", "secret": "do not show this!", "active": true}]}',
        b'{"keys": [{"secret": "a", "id": "do not show this", "active": true}]}',
    ],
)
def test_no_secret_shows_in_a_message(file: bytes) -> None:
    with pytest.raises(KeyringError) as caught:
        parse_keyring(file)
    message = str(caught.value)
    assert "do-not-show" not in message
    assert "do not show" not in message
    assert base64.b64encode(b"do-not-show-this").decode()[:12] not in message
