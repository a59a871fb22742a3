"""Signed notes: text, a blank line, signature lines (C2SP signed-note, "Format").

A note is UTF-8 without control characters other than newlines. The text keeps its
last newline; the last blank line of a note ends it. A signature by an unknown key
is ignored, every signature by a known key must verify, and at least one known key
must have signed. The limits are those of Go's ``golang.org/x/mod/sumdb/note``, so
that both read the same notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ledger.errors import NoteError, UnsignedNote
from ledger.note.keys import Signer, Verifier
from ledger.note.signature import NoteSignature, parse_line

NOTE_BYTES_MAX: Final = 1_000_000
SIGNATURES_MAX: Final = 100
_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note, unverified: its content must not be trusted."""

    text: bytes
    signatures: tuple[NoteSignature, ...]


class VerifiedSignature(NamedTuple):
    """A signature that verified, and its time (POSIX seconds; None for a type without a time)."""

    signature: NoteSignature
    verifier: Verifier
    time_s: int | None


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note whose text at least one known key signed.

    ``verified`` holds each known key once, by its first line; ``unknown`` holds
    the signatures by all other keys.
    """

    text: bytes
    verified: tuple[VerifiedSignature, ...]
    unknown: tuple[NoteSignature, ...]


def parse_note(data: bytes) -> Note:
    """Parse a note without verifying it. Raises NoteError for any other bytes."""
    text, lines = _split(data)
    return Note(text, tuple(map(parse_line, lines)))


def open_note(data: bytes, verifiers: Iterable[Verifier]) -> OpenedNote:
    """Parse a note and verify every signature by a known key.

    Raises NoteError for bytes that are not a note, InvalidSignature if a known
    key's signature does not verify, UnsignedNote if no known key signed.
    """
    known = _by_identity(verifiers)
    note = parse_note(data)
    verified: dict[tuple[str, bytes], VerifiedSignature] = {}
    unknown = []
    for signature in note.signatures:
        identity = signature.name, signature.key_id
        verifier = known.get(identity)
        if verifier is None:
            unknown.append(signature)
            continue
        # Repeated lines are verified too: one bad line by a known key refuses the note.
        time_s = verifier.verify(note.text, signature.blob)
        verified.setdefault(identity, VerifiedSignature(signature, verifier, time_s))
    if not verified:
        raise _unsigned(note, known)
    return OpenedNote(note.text, tuple(verified.values()), tuple(unknown))


def sign_note(text: bytes, signers: Sequence[Signer], time_s: int = 0) -> bytes:
    """Make a note over the text, signed in the order of the signers.

    ``time_s`` is the time of the cosignatures among them. Raises NoteError for a
    text that no note can hold, or without a signer.
    """
    check_text(text)
    if not 1 <= len(signers) <= SIGNATURES_MAX:
        raise NoteError(f"a note has 1 to {SIGNATURES_MAX} signatures, not {len(signers)}")
    note = b"".join((text, b"\n", *[signer.line(text, time_s) for signer in signers]))
    return _checked_size(note)


def add_signatures(note: bytes, signatures: Iterable[NoteSignature]) -> bytes:
    """Append signature lines to a note, except lines that it has already.

    Nothing is verified. Raises NoteError for bytes that are not a note, or if the
    result is too large.
    """
    found = list(parse_note(note).signatures)
    added = []
    for signature in signatures:
        if signature not in found:
            found.append(signature)
            added.append(signature.line())
    if len(found) > SIGNATURES_MAX:
        raise NoteError(f"a note has at most {SIGNATURES_MAX} signatures, not {len(found)}")
    return _checked_size(b"".join((note, *added)))


def parse_signatures(lines: bytes) -> tuple[NoteSignature, ...]:
    """Parse signature lines without a note, each ended by a newline: a witness's answer.

    Raises NoteError, also if there is no line.
    """
    _check_characters(lines)
    return tuple(map(parse_line, _lines(lines)))


def check_text(text: bytes) -> None:
    """Raise NoteError for bytes that can't be a note's text."""
    if not text.endswith(b"\n"):
        raise NoteError("the text of a note must end in a newline")
    _check_characters(text)


def _check_characters(data: bytes) -> None:
    if len(data) > NOTE_BYTES_MAX:
        raise NoteError(f"a note has at most {NOTE_BYTES_MAX} bytes, not {len(data)}")
    if _CONTROL.search(data):
        raise NoteError("a note must not contain control characters other than newlines")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise NoteError("a note must be UTF-8") from None


def _split(data: bytes) -> tuple[bytes, list[bytes]]:
    """Return the text and the signature lines."""
    _check_characters(data)
    end = data.rfind(b"\n\n")
    if end < 0:
        raise NoteError("a note must be text, a blank line, and signature lines")
    return data[: end + 1], _lines(data[end + 2 :])


def _lines(data: bytes) -> list[bytes]:
    *lines, rest = data.split(b"\n", SIGNATURES_MAX)
    if len(lines) == SIGNATURES_MAX and rest:
        raise NoteError(f"a note has at most {SIGNATURES_MAX} signatures")
    if rest:
        raise NoteError("the last signature line of a note must end in a newline")
    if not lines:
        raise NoteError("a note must have at least one signature line")
    return lines


def _by_identity(verifiers: Iterable[Verifier]) -> Mapping[tuple[str, bytes], Verifier]:
    known: dict[tuple[str, bytes], Verifier] = {}
    for verifier in verifiers:
        if known.setdefault((verifier.name, verifier.key_id), verifier) != verifier:
            raise NoteError(
                f"two keys of {verifier.name!r} share the id {verifier.key_id.hex()}, so no "
                "signature line can say which key signed. Give one key another name"
            )
    return known


def _unsigned(note: Note, known: Mapping[tuple[str, bytes], Verifier]) -> UnsignedNote:
    return UnsignedNote(
        f"no known key signed the note: signed by {_names((s.name, s.key_id) for s in note.signatures)}; "
        f"known {_names(known)}"
    )


def _names(identities: Iterable[tuple[str, bytes]]) -> str:
    listed = [f"{name!r} ({key_id.hex()})" for name, key_id in identities]
    return ", ".join(listed[:4]) + (", …" if len(listed) > 4 else "") if listed else "none"


def _checked_size(note: bytes) -> bytes:
    if len(note) > NOTE_BYTES_MAX:
        raise NoteError(f"a note has at most {NOTE_BYTES_MAX} bytes, not {len(note)}")
    return note
