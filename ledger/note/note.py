"""Signed notes: text, a blank line, signature lines (C2SP signed-note, "Format").

UTF-8 without control characters but newlines. The text keeps its last newline;
the last blank line of a note ends it. A signature of an unknown key is left
aside, one of a known key must verify, and at least one must be there. The
limits are those of Go's ``golang.org/x/mod/sumdb/note``, so what is opened here
opens there.
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
    """A note that was read and not verified: nothing in it may be believed."""

    text: bytes
    signatures: tuple[NoteSignature, ...]


class VerifiedSignature(NamedTuple):
    """A signature that verified, and the time it states (POSIX seconds) if its type states one."""

    signature: NoteSignature
    verifier: Verifier
    time_s: int | None


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note whose text at least one known key signed.

    ``verified`` holds each known key once, by its first line; ``unknown`` the
    signatures of keys that nobody named.
    """

    text: bytes
    verified: tuple[VerifiedSignature, ...]
    unknown: tuple[NoteSignature, ...]


def parse_note(data: bytes) -> Note:
    """Read a note without verifying it. Raises NoteError for all that is not one."""
    text, lines = _split(data)
    return Note(text, tuple(map(parse_line, lines)))


def open_note(data: bytes, verifiers: Iterable[Verifier]) -> OpenedNote:
    """Read a note and verify every signature in it by a key that is known.

    Raises NoteError for all that is not a note, InvalidSignature where a known
    key's signature does not verify, UnsignedNote where no known key signed.
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
        # Also where the key signed before: a bad line by a known key refuses the note.
        time_s = verifier.verify(note.text, signature.blob)
        verified.setdefault(identity, VerifiedSignature(signature, verifier, time_s))
    if not verified:
        raise _unsigned(note, known)
    return OpenedNote(note.text, tuple(verified.values()), tuple(unknown))


def sign_note(text: bytes, signers: Sequence[Signer], time_s: int = 0) -> bytes:
    """A note over the text, signed in the order of the signers.

    ``time_s`` is what the cosignatures among them state. Raises NoteError for a
    text that no note can hold, or no signer.
    """
    check_text(text)
    if not 1 <= len(signers) <= SIGNATURES_MAX:
        raise NoteError(f"a note has 1 to {SIGNATURES_MAX} signatures, not {len(signers)}")
    note = b"".join((text, b"\n", *[signer.line(text, time_s) for signer in signers]))
    return _checked_size(note)


def add_signatures(note: bytes, signatures: Iterable[NoteSignature]) -> bytes:
    """The note with more signature lines behind its own, a line that it has already left out.

    Nothing is verified. Raises NoteError for what is not a note, or would grow
    into one too large.
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
    """Read signature lines that stand alone, each ended by a newline, as witnesses answer.

    Raises NoteError; no line at all is one too few.
    """
    _check_characters(lines)
    return tuple(map(parse_line, _lines(lines)))


def check_text(text: bytes) -> None:
    """Raises NoteError for bytes that can't be a note's text."""
    if not text.endswith(b"\n"):
        raise NoteError("the text of a note must end in a newline")
    _check_characters(text)


def _check_characters(data: bytes) -> None:
    if len(data) > NOTE_BYTES_MAX:
        raise NoteError(f"a note has at most {NOTE_BYTES_MAX} bytes, not {len(data)}")
    if _CONTROL.search(data):
        raise NoteError("a note holds no control character but the newline")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise NoteError("a note is UTF-8") from None


def _split(data: bytes) -> tuple[bytes, list[bytes]]:
    """Text and signature lines."""
    _check_characters(data)
    end = data.rfind(b"\n\n")
    if end < 0:
        raise NoteError("a note is text, a blank line, and signature lines")
    return data[: end + 1], _lines(data[end + 2 :])


def _lines(data: bytes) -> list[bytes]:
    *lines, rest = data.split(b"\n", SIGNATURES_MAX)
    if len(lines) == SIGNATURES_MAX and rest:
        raise NoteError(f"a note has at most {SIGNATURES_MAX} signatures")
    if rest:
        raise NoteError("the last signature line of a note must end in a newline")
    if not lines:
        raise NoteError("a note has at least one signature line")
    return lines


def _by_identity(verifiers: Iterable[Verifier]) -> Mapping[tuple[str, bytes], Verifier]:
    known: dict[tuple[str, bytes], Verifier] = {}
    for verifier in verifiers:
        if known.setdefault((verifier.name, verifier.key_id), verifier) != verifier:
            raise NoteError(
                f"two keys of {verifier.name!r} share the id {verifier.key_id.hex()}: no line can "
                "tell which of them signed. Give one of them another name"
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
