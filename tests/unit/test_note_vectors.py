"""Notes that other implementations signed, and the signed messages written out by hand."""

import base64
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from ledger.checkpoint import open_checkpoint, parse_checkpoint
from ledger.errors import NoteError
from ledger.note import (
    CosignatureSigner,
    Ed25519Signer,
    MlDsaSigner,
    cosigned_message,
    open_note,
    parse_note,
    parse_vkey,
)

VECTORS = Path(__file__).parents[1] / "vectors"
NOTES = json.loads((VECTORS / "notes" / "signed_notes.json").read_text())["notes"]
TESSERA = VECTORS / "merkle" / "tessera_log"
TESSERA_VKEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
SEED = bytes(range(32))
NAME, ORIGIN, TIME_S = "witness.example/w", "log.example/7", 1_700_000_000
ROOT = hashlib.sha256(b"root").digest()
TEXT = f"{ORIGIN}\n7\n{base64.b64encode(ROOT).decode()}\n".encode()


@pytest.mark.parametrize("vector", NOTES, ids=[vector["desc"] for vector in NOTES])
def test_a_published_note(vector: dict[str, Any]) -> None:
    note = vector["note"].encode()
    if vector["valid"]:
        verifier = parse_vkey(vector["vkey"])
        opened = open_note(note, [verifier])
        assert [signature.verifier for signature in opened.verified] == [verifier]
        assert verifier.vkey() == vector["vkey"]
        assert len(opened.verified) + len(opened.unknown) == note.count("— ".encode())
    else:
        with pytest.raises(NoteError):
            open_note(note, [parse_vkey(vector["vkey"])])


def test_the_published_cosignatures_state_their_times() -> None:
    times = [
        open_note(vector["note"].encode(), [parse_vkey(vector["vkey"])]).verified[0].time_s
        for vector in NOTES
        if vector["valid"]
    ]
    assert times == [None, 1_767_139_200, 1_767_139_200, 0]


def test_every_published_checkpoint_of_a_log_opens() -> None:
    verifiers = [parse_vkey(TESSERA_VKEY)]
    for path in TESSERA.glob("checkpoint*"):
        opened = open_checkpoint(path.read_bytes(), "example.com/log/testdata", verifiers)
        assert opened.checkpoint.text() == opened.note.text
        assert parse_checkpoint(opened.note.text) == opened.checkpoint
        size = path.suffix.removeprefix(".")
        assert opened.checkpoint.size == int(size or 15)


def test_an_ed25519_signature_is_over_the_text() -> None:
    signer = Ed25519Signer.from_seed(NAME, SEED)
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    public = key.public_key().public_bytes_raw()
    key_id = hashlib.sha256(NAME.encode() + b"\n\x01" + public).digest()[:4]
    line = f"— {NAME} ".encode() + base64.b64encode(key_id + key.sign(TEXT)) + b"\n"
    assert signer.line(TEXT) == line


def test_a_cosignature_is_over_its_time_and_the_text() -> None:
    signer = CosignatureSigner.from_seed(NAME, SEED)
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    public = key.public_key().public_bytes_raw()
    assert signer.key_id == hashlib.sha256(NAME.encode() + b"\n\x04" + public).digest()[:4]
    signature = key.sign(b"cosignature/v1\ntime 1700000000\n" + TEXT)
    assert signer.sign(TEXT, TIME_S) == struct.pack(">Q", TIME_S) + signature


def written_out(time_s: int) -> bytes:
    return (
        b"subtree/v1\n\0"
        + struct.pack(">B", len(NAME))
        + NAME.encode()
        + struct.pack(">Q", time_s)
        + struct.pack(">B", len(ORIGIN))
        + ORIGIN.encode()
        + struct.pack(">QQ", 0, 7)
        + ROOT
    )


@pytest.mark.parametrize("time_s", [0, TIME_S, 2**63 - 1])
def test_an_ml_dsa_cosignature_is_over_the_cosigned_message(time_s: int) -> None:
    signer = MlDsaSigner.from_seed(NAME, SEED)
    public = MLDSA44PrivateKey.from_seed_bytes(SEED).public_key().public_bytes_raw()
    assert signer.key_id == hashlib.sha256(NAME.encode() + b"\n\x06" + public).digest()[:4]
    blob = signer.sign(TEXT, time_s)
    assert blob[:8] == struct.pack(">Q", time_s)
    assert len(blob) == 8 + 2420
    MLDSA44PublicKey.from_public_bytes(public).verify(blob[8:], written_out(time_s))


def test_an_ml_dsa_signature_that_was_made_elsewhere_verifies() -> None:
    key = MLDSA44PrivateKey.from_seed_bytes(SEED)
    blob = struct.pack(">Q", TIME_S) + key.sign(written_out(TIME_S))
    assert MlDsaSigner.from_seed(NAME, SEED).verifier().verify(TEXT, blob) == TIME_S


def test_the_cosigned_message_of_a_subtree() -> None:
    message = cosigned_message("c", 0, "o", 8, 13, ROOT)
    assert (
        message == b"subtree/v1\n\0\x01c" + bytes(8) + b"\x01o" + struct.pack(">QQ", 8, 13) + ROOT
    )


def test_an_altered_byte_of_a_published_note_is_noticed() -> None:
    # The signature line of another key may change: nobody here verifies it.
    vector = NOTES[0]
    note, verifiers = vector["note"].encode(), [parse_vkey(vector["vkey"])]
    for place in range(len(note)):
        for bit in range(8):
            changed = note[:place] + bytes([note[place] ^ 1 << bit]) + note[place + 1 :]
            with pytest.raises(NoteError):
                open_note(changed, verifiers)


def test_a_note_reads_back_as_its_lines() -> None:
    for vector in NOTES:
        data = vector["note"].encode()
        note = parse_note(data)
        assert b"".join((note.text, b"\n", *(one.line() for one in note.signatures))) == data
