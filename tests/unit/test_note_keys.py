"""The text form of note keys: exactly the vkeys that Go and other C2SP readers accept."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import NoteError
from ledger.note import (
    CosignatureSigner,
    Ed25519Signer,
    MlDsaSigner,
    Signer,
    parse_skey,
    parse_vkey,
)
from tests.support.trails import raises_only

NAME = "example.com/foo"
SEED = b"do-not-show-this-seed-to-anybody"
KINDS: list[type[Ed25519Signer | CosignatureSigner | MlDsaSigner]] = [
    Ed25519Signer,
    CosignatureSigner,
    MlDsaSigner,
]
SIGNERS: list[Signer] = [kind.from_seed(NAME, SEED) for kind in KINDS]
VKEY = SIGNERS[0].vkey()
SKEY = SIGNERS[0].skey()
PUBLIC = SIGNERS[0].verifier().public_key


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.kind.name)
def test_a_key_reads_back(signer: Signer) -> None:
    verifier = parse_vkey(signer.vkey())
    assert verifier == signer.verifier()
    assert hash(verifier) == hash(signer.verifier())
    assert verifier.vkey() == signer.vkey()
    again = parse_skey(signer.skey())
    assert (again.skey(), again.vkey()) == (signer.skey(), signer.vkey())
    assert again.key_id == signer.key_id == verifier.key_id


def test_the_parts_of_a_verifier_key() -> None:
    for kind, signer in zip((1, 4, 6), SIGNERS, strict=True):
        name, key_id, key = signer.vkey().split("+", 2)
        material = base64.b64decode(key, validate=True)
        assert name == NAME
        assert material[0] == kind
        digest = hashlib.sha256(NAME.encode() + b"\n" + material).digest()
        assert bytes.fromhex(key_id) == digest[:4] == signer.key_id


def test_one_public_key_has_an_id_for_each_type_and_name() -> None:
    assert len({signer.key_id for signer in SIGNERS}) == 3
    assert Ed25519Signer.from_seed("other", SEED).key_id != SIGNERS[0].key_id
    assert SIGNERS[0].verifier() != SIGNERS[1].verifier()
    assert SIGNERS[0].verifier() != Ed25519Signer.from_seed("other", SEED).verifier()
    assert SIGNERS[0].verifier() != "a string"


def test_a_private_key_is_distinguished_from_a_verifier_key() -> None:
    with pytest.raises(NoteError, match="private key: keep it secret") as caught:
        parse_vkey(SKEY)
    assert SKEY.split("+")[-1] not in str(caught.value)
    with pytest.raises(NoteError, match=r"must begin with PRIVATE\+KEY\+"):
        parse_skey(VKEY)


def encoded(kind: int, public: bytes) -> str:
    key_id = hashlib.sha256(NAME.encode() + b"\n" + bytes([kind]) + public).digest()[:4]
    return f"{NAME}+{key_id.hex()}+{base64.b64encode(bytes([kind]) + public).decode()}"


@pytest.mark.parametrize("kind", [0, 2, 3, 5, 7, 0xFA, 0xFF])
def test_another_type_is_named_and_refused(kind: int) -> None:
    with pytest.raises(
        NoteError, match=f"type 0x{kind:02x}; this version supports 0x01, 0x04, 0x06"
    ):
        parse_vkey(encoded(kind, PUBLIC))
    with pytest.raises(NoteError, match=f"type 0x{kind:02x}"):
        parse_skey("PRIVATE+KEY+" + encoded(kind, SEED))


@pytest.mark.parametrize(("kind", "size"), [(1, 32), (4, 32), (6, 1312)])
@pytest.mark.parametrize("off", [-1, 1])
def test_a_key_of_another_length_is_refused(kind: int, size: int, off: int) -> None:
    with pytest.raises(NoteError, match=f"has {size} bytes, not {size + off}"):
        parse_vkey(encoded(kind, bytes(size + off)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "++",
        NAME,
        VKEY.rpartition("+")[0],
        VKEY.replace(NAME, ""),
        VKEY.replace(NAME, "a b"),
        VKEY.replace(NAME, "example.com/fop"),
        VKEY.replace(SIGNERS[0].key_id.hex(), SIGNERS[0].key_id.hex().upper()),
        VKEY.replace(SIGNERS[0].key_id.hex(), "00000000"),
        VKEY.replace(SIGNERS[0].key_id.hex(), "0" + SIGNERS[0].key_id.hex()),
        VKEY[:-1],
        VKEY + "=",
        VKEY + "\n",
        " " + VKEY,
        VKEY + "ä",
        f"{NAME}+00000000+",
        f"{NAME}+00000000+AQ==",
    ],
)
def test_malformed_verifier_keys_are_refused(text: str) -> None:
    with pytest.raises(NoteError):
        parse_vkey(text)
    with pytest.raises(NoteError):
        parse_skey("PRIVATE+KEY+" + text)


def test_a_key_of_unbounded_length_is_not_read() -> None:
    with pytest.raises(NoteError, match="at most 8192 characters"):
        parse_vkey("a" * 8_192 + VKEY)
    with pytest.raises(NoteError, match="at most 8192 characters"):
        parse_skey("PRIVATE+KEY+" + "a" * 8_192 + VKEY)


def test_no_seed_shows_in_a_message_or_repr() -> None:
    for signer in SIGNERS:
        secret = signer.skey().split("+", 4)[4]
        assert secret[-10:] not in repr(signer)
        for broken in (signer.skey()[:-1], signer.skey() + "A", signer.skey().replace(NAME, "x")):
            with pytest.raises(NoteError) as caught:
                parse_skey(broken)
            assert secret[4:20] not in str(caught.value)


@given(st.text())
def test_arbitrary_text_raises_nothing_but_a_note_error(text: str) -> None:
    raises_only(NoteError, lambda: parse_vkey(text))
    raises_only(NoteError, lambda: parse_vkey(VKEY[:20] + text + VKEY[20:]))
    raises_only(NoteError, lambda: parse_skey("PRIVATE+KEY+" + text))


@given(st.sampled_from([1, 4, 6]), st.binary(max_size=40) | st.binary(min_size=1312, max_size=1312))
def test_arbitrary_keys_raise_nothing_but_a_note_error(kind: int, public: bytes) -> None:
    raises_only(NoteError, lambda: parse_vkey(encoded(kind, public)).verify(b"\n", bytes(64)))
