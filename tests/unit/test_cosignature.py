"""Cosignatures: the signed message, refusals to sign, and that no other message verifies."""

import hashlib
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import TreeHead
from ledger.errors import InvalidSignature, NoteError
from ledger.note import (
    CosignatureSigner,
    Ed25519Signer,
    MlDsaSigner,
    Signer,
    cosigned_message,
    open_note,
    sign_note,
)
from tests.support.trails import flips, raises_only

TIME_S = 1_700_000_000
ROOT = hashlib.sha256(b"root").digest()
EMPTY_ROOT = hashlib.sha256().digest()
TEXT = TreeHead("log.example", 7, ROOT).text()
CLASSICAL = CosignatureSigner.from_seed("w.example/1", b"c" * 32)
POST_QUANTUM = MlDsaSigner.from_seed("w.example/2", b"q" * 32)
COSIGNERS: list[Signer] = [CLASSICAL, POST_QUANTUM]
each = pytest.mark.parametrize("signer", COSIGNERS, ids=["ed25519", "ml-dsa-44"])


@each
def test_a_cosignature_states_its_time(signer: Signer) -> None:
    opened = open_note(sign_note(TEXT, [signer], TIME_S), [signer.verifier()])
    assert opened.verified[0].time_s == TIME_S
    assert opened.verified[0].verifier == signer.verifier()


def test_all_types_sign_one_note() -> None:
    log = Ed25519Signer.from_seed("log.example", b"l" * 32)
    note = sign_note(TEXT, [log, *COSIGNERS], TIME_S)
    opened = open_note(note, [signer.verifier() for signer in (log, *COSIGNERS)])
    assert [signature.time_s for signature in opened.verified] == [None, TIME_S, TIME_S]


@each
def test_another_time_does_not_verify(signer: Signer) -> None:
    blob = signer.sign(TEXT, TIME_S)
    moved = (TIME_S + 1).to_bytes(8, "big") + blob[8:]
    with pytest.raises(InvalidSignature):
        signer.verifier().verify(TEXT, moved)


@each
def test_no_changed_bit_of_a_checkpoint_verifies(signer: Signer) -> None:
    blob, verifier = signer.sign(TEXT, TIME_S), signer.verifier()
    assert verifier.verify(TEXT, blob) == TIME_S
    for changed in flips(TEXT):
        with pytest.raises(InvalidSignature):
            verifier.verify(changed, blob)


def test_no_changed_bit_of_a_cosignature_verifies() -> None:
    blob, verifier = CLASSICAL.sign(TEXT, TIME_S), CLASSICAL.verifier()
    for changed in flips(blob):
        with pytest.raises(InvalidSignature):
            verifier.verify(TEXT, changed)


def test_no_changed_byte_of_an_ml_dsa_cosignature_verifies() -> None:
    blob, verifier = POST_QUANTUM.sign(TEXT, TIME_S), POST_QUANTUM.verifier()
    for place in range(0, len(blob), 7):
        changed = blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :]
        with pytest.raises(InvalidSignature):
            verifier.verify(TEXT, changed)


@each
@pytest.mark.parametrize(
    "change", [lambda blob: blob[:-1], lambda blob: blob + b"\0", lambda _: b""]
)
def test_a_cosignature_of_another_length_does_not_verify(
    signer: Signer, change: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(InvalidSignature, match="bytes, not"):
        signer.verifier().verify(TEXT, change(signer.sign(TEXT, TIME_S)))


@each
def test_a_time_after_the_last_is_refused(signer: Signer) -> None:
    blob = signer.sign(TEXT, 2**63 - 1)
    assert signer.verifier().verify(TEXT, blob) == 2**63 - 1
    with pytest.raises(InvalidSignature, match="after 2\\^63-1"):
        signer.verifier().verify(TEXT, (2**63).to_bytes(8, "big") + blob[8:])
    for time_s in (-1, 2**63):
        with pytest.raises(NoteError, match="0 to 2\\^63-1"):
            signer.sign(TEXT, time_s)


def test_no_time_is_a_statement_only_of_the_type_that_has_it() -> None:
    assert POST_QUANTUM.verifier().verify(TEXT, POST_QUANTUM.sign(TEXT)) == 0
    with pytest.raises(NoteError, match="needs a time"):
        CLASSICAL.sign(TEXT)


@each
@pytest.mark.parametrize(
    "text",
    [
        b"hello\n",
        b"log.example\n7\n",
        TEXT.replace(b"\n7\n", b"\n07\n"),
        TEXT.replace(b"\n7\n", b"\n-7\n"),
        TEXT + b"\n",
    ],
)
def test_a_text_that_is_not_a_checkpoint_is_neither_signed_nor_accepted(
    signer: Signer, text: bytes
) -> None:
    with pytest.raises(NoteError, match="only a checkpoint can be cosigned"):
        signer.sign(text, TIME_S)
    with pytest.raises(InvalidSignature, match="not a checkpoint"):
        signer.verifier().verify(text, signer.sign(TEXT, TIME_S))


def test_extension_lines_are_signed_by_ed25519_and_refused_by_ml_dsa() -> None:
    extended = TreeHead("log.example", 7, ROOT, ("extension",)).text()
    blob = CLASSICAL.sign(extended, TIME_S)
    assert CLASSICAL.verifier().verify(extended, blob) == TIME_S
    with pytest.raises(InvalidSignature):
        CLASSICAL.verifier().verify(TEXT, blob)
    with pytest.raises(NoteError, match="extension lines"):
        POST_QUANTUM.sign(extended, TIME_S)
    with pytest.raises(InvalidSignature, match="extension lines"):
        POST_QUANTUM.verifier().verify(extended, POST_QUANTUM.sign(TEXT, TIME_S))


def test_an_ml_dsa_cosignature_commits_to_the_cosigner() -> None:
    other = MlDsaSigner.from_seed("w.example/3", b"q" * 32)
    with pytest.raises(InvalidSignature):
        other.verifier().verify(TEXT, POST_QUANTUM.sign(TEXT, TIME_S))


def test_the_empty_tree_has_one_root() -> None:
    empty = TreeHead("log.example", 0, EMPTY_ROOT).text()
    assert POST_QUANTUM.verifier().verify(empty, POST_QUANTUM.sign(empty, TIME_S)) == TIME_S
    false = TreeHead("log.example", 0, ROOT).text()
    with pytest.raises(NoteError, match="root of an empty tree"):
        POST_QUANTUM.sign(false, TIME_S)
    with pytest.raises(InvalidSignature, match="root of an empty tree"):
        POST_QUANTUM.verifier().verify(false, POST_QUANTUM.sign(empty, TIME_S))


@pytest.mark.parametrize("length", [255, 256])
def test_the_longest_names(length: int) -> None:
    fits = length == 255
    text = TreeHead("ö" * (length // 2) + "o" * (length % 2), 1, ROOT).text()
    if fits:
        signer = MlDsaSigner.from_seed("n" * length, b"q" * 32)
        assert signer.verifier().verify(text, signer.sign(text, 1)) == 1
        return
    with pytest.raises(NoteError, match="1 to 255 bytes"):
        MlDsaSigner.from_seed("n" * length, b"q" * 32)
    with pytest.raises(NoteError, match="1 to 255 bytes"):
        POST_QUANTUM.sign(text, 1)
    with pytest.raises(InvalidSignature, match="1 to 255 bytes"):
        POST_QUANTUM.verifier().verify(text, POST_QUANTUM.sign(TEXT, 1))


@pytest.mark.parametrize(
    ("start", "end", "time_s", "root"),
    [
        (-1, 1, 0, ROOT),
        (2, 1, 0, ROOT),
        (0, 2**63, 0, ROOT),
        (8, 13, 1, ROOT),
        (5, 5, 0, ROOT),
        (0, 1, 0, ROOT[1:]),
    ],
)
def test_values_no_cosigned_message_can_have(
    start: int, end: int, time_s: int, root: bytes
) -> None:
    with pytest.raises(NoteError):
        cosigned_message("c", time_s, "o", start, end, root)
    with pytest.raises(NoteError):
        cosigned_message("c", 0, "", 0, 1, ROOT)


def test_a_key_of_one_type_never_signs_as_the_other() -> None:
    plain = Ed25519Signer.from_seed("w.example/1", b"c" * 32)
    with pytest.raises(InvalidSignature):
        plain.verifier().verify(TEXT, CLASSICAL.sign(TEXT, TIME_S)[8:])
    with pytest.raises(InvalidSignature):
        CLASSICAL.verifier().verify(TEXT, TIME_S.to_bytes(8, "big") + plain.sign(TEXT))


@given(st.binary(max_size=200), st.binary(max_size=100) | st.binary(min_size=2428, max_size=2428))
def test_arbitrary_bytes_raise_nothing_but_invalid_signature(text: bytes, blob: bytes) -> None:
    for signer in COSIGNERS:
        verifier = signer.verifier()
        raises_only(InvalidSignature, partial(verifier.verify, text, blob))
        raises_only(InvalidSignature, partial(verifier.verify, TEXT, blob))
