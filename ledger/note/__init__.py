"""Signed notes and their keys (C2SP signed-note, tlog-cosignature)."""

from __future__ import annotations

from ledger.note.cosignature import CosignatureSigner, CosignatureVerifier
from ledger.note.ed25519 import Ed25519Key, Ed25519Signer, Ed25519Verifier
from ledger.note.key_text import parse_skey, parse_vkey
from ledger.note.keys import Signer, Verifier
from ledger.note.mldsa import MlDsaKey, MlDsaSigner, MlDsaVerifier, cosigned_message
from ledger.note.note import (
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    Note,
    OpenedNote,
    VerifiedSignature,
    add_signatures,
    check_text,
    open_note,
    parse_note,
    parse_signatures,
    sign_note,
)
from ledger.note.signature import NoteSignature, SignatureType

__all__ = [
    "NOTE_BYTES_MAX",
    "SIGNATURES_MAX",
    "CosignatureSigner",
    "CosignatureVerifier",
    "Ed25519Key",
    "Ed25519Signer",
    "Ed25519Verifier",
    "MlDsaKey",
    "MlDsaSigner",
    "MlDsaVerifier",
    "Note",
    "NoteSignature",
    "OpenedNote",
    "SignatureType",
    "Signer",
    "VerifiedSignature",
    "Verifier",
    "add_signatures",
    "check_text",
    "cosigned_message",
    "open_note",
    "parse_note",
    "parse_signatures",
    "parse_skey",
    "parse_vkey",
    "sign_note",
]
