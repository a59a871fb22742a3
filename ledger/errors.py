"""Every error Quire raises on purpose, as one tree.

::

    QuireError
    ├── FormatError                 bytes that are not what they should be
    │   ├── CheckpointError         text that is no checkpoint, or another log's
    │   ├── EvidenceError           an evidence bundle that can't be read or written
    │   ├── KeyHistoryError         a log's key history that does not verify
    │   │   └── ForeignHistory      of another log than the one that was pinned
    │   ├── InvalidTime             text that names no time, or none that can be compared
    │   ├── MalformedLeaf
    │   ├── MalformedRecordId
    │   ├── MalformedSealedPayload
    │   ├── NoteError               bytes that are no signed note, or no key of one
    │   │   ├── InvalidSignature    a known key's signature that does not verify
    │   │   └── UnsignedNote        no signature of a key that is known
    │   ├── ProofError              a tlog-proof file that can't be read or written
    │   ├── SubmissionError         a request to a witness that is not in its form
    │   ├── TrustPolicyError        a tlog-policy file that can't be used as it is
    │   └── TileError               a tile, entry bundle or path that is not what it should be
    ├── MerkleError                 a proof that does not hold, or a tree that can't be
    ├── TimestampError              an RFC 3161 token that does not prove what it should
    ├── InvalidEvent                an event the caller must correct
    │   └── PayloadTooLarge
    ├── KeyringError                signing or master keys that can't be used
    │   ├── MissingKey
    │   ├── WeakKey
    │   ├── AmbiguousActiveKey
    │   ├── LogKeyError             keys of the logs that can't be used
    │   └── UnknownKey
    ├── SealingError                a payload or key that does not open
    ├── StorageError                the database can't do what was asked
    │   ├── MigrationError
    │   ├── DatabaseUnavailable
    │   └── OutcomeUnknown          a commit that nobody could read back yet
    ├── ArchiveError                an archive's target can't do what was asked
    │   ├── ArchiveMisconfigured    the target as it is set up can't be used
    │   ├── ArchiveDenied           the target refused the credentials
    │   ├── ArchiveUnavailable      network, throttling, full disk: trying again may help
    │   ├── ArchiveMismatch         the target holds, or answered, other than it should
    │   ├── ArchiveRefused          the trail itself is not right: it is not archived like this
    │   ├── ArchiveObjectMissing    nothing is stored under the key
    │   └── RestoreRefused          an org can't be restored here, or not from this archive
    ├── RetentionRefused            a month stays in the database, and why
    └── AppendRefused               nothing was written; the trail is as it was
        ├── ClockUnsteady           the time is not to be trusted now
        ├── OrgFrozen
        ├── IdempotencyMismatch
        ├── QueueFull
        └── ShuttingDown

Some modules define errors of their own below these: MalformedQwedRow,
QwedSourceError, VerificationFailed, StaleSeal, those of ``ledger.client``.
The message is for a person and says what to do next.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple


class ProblemType(NamedTuple):
    """The problem (RFC 9457) that the API answers an error with: its stable type, status, title."""

    slug: str
    status: int
    title: str


INVALID_REQUEST: Final = ProblemType("invalid-request", 400, "Invalid request")
NOT_FOUND: Final = ProblemType("not-found", 404, "Not found")
FROZEN: Final = ProblemType("org-frozen", 423, "The org is frozen")
UNAVAILABLE: Final = ProblemType("unavailable", 503, "Temporarily unavailable")


class QuireError(Exception):
    """Base of all errors that Quire raises on purpose.

    ``problem_type`` is what the API answers; a class without one has that of its base. None: an error
    that callers are told nothing of.
    """

    problem_type: ClassVar[ProblemType | None] = None


class FormatError(QuireError):
    """Bytes or text that do not follow the format they claim to be in."""


class EvidenceError(FormatError):
    """An evidence bundle, or a part of one, that can't be read, or can't be written."""


class InvalidTime(FormatError):
    """Text that names no time, or one outside of the years 1 to 9999 in UTC."""


class MalformedLeaf(FormatError):
    """Leaf bytes that are not the canonical encoding of a version 1 leaf."""


class MalformedRecordId(FormatError):
    """Text that is not a record id."""


class MalformedSealedPayload(FormatError):
    """Sealed payload bytes with a wrong version or length."""


class ProofError(FormatError):
    """A transparency log proof that can't be read, or could not be written so that it can."""


class TileError(FormatError):
    """A tile, an entry bundle or a path of theirs that is not what it should be."""


class MerkleError(QuireError):
    """A Merkle proof that does not hold, or coordinates that no tree has."""


class NoteError(FormatError):
    """Bytes that are no signed note, or a key of one that can't be read."""


class InvalidSignature(NoteError):
    """A signature by a known key that does not verify: the note was altered or forged."""


class UnsignedNote(NoteError):
    """A note that carries no signature of any key that is known."""


class CheckpointError(FormatError):
    """Text that is no checkpoint, or a checkpoint of another log."""


class TrustPolicyError(FormatError):
    """A tlog-policy file that can't be used as it is; the message names the line."""


class SubmissionError(FormatError):
    """A request to a witness that is not in the form of C2SP tlog-witness."""


class TimestampError(QuireError):
    """A timestamp response or token that can't be read, or does not prove what it should."""


class KeyHistoryError(FormatError):
    """A history of a log's keys, or pins of one, that can't be read or does not verify."""


class ForeignHistory(KeyHistoryError):
    """A key history that verifies but is not the one that was pinned."""


class HistoryBeforePins(ForeignHistory):
    """A key history that ends before the first key that was pinned: neither right nor wrong."""


class InvalidEvent(QuireError):
    """An event that can't be recorded as it is.

    ``index`` is the event's 0-based place in its request, ``field`` the name of
    the offending field; both are None where they do not apply.
    """

    problem_type = ProblemType("invalid-event", 400, "Invalid event")

    def __init__(self, message: str, *, field: str | None = None, index: int | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.index = index


class PayloadTooLarge(InvalidEvent):
    """An event, or a request, that exceeds a size limit."""

    problem_type = ProblemType("payload-too-large", 413, "Too large")


class KeyringError(QuireError):
    """Signing or master keys that can't be used as they are."""


class MissingKey(KeyringError):
    """A key that must be configured is not."""


class WeakKey(KeyringError):
    """A key shorter than 32 bytes."""


class AmbiguousActiveKey(KeyringError):
    """A keyring in which not exactly one key is active."""


class LogKeyError(KeyringError):
    """Keys that sign checkpoints and anchors that can't be used as they are."""


class UnknownKey(KeyringError):
    """A key id that the keyring does not hold."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"signing key {key_id!r} is not in the keyring; add the key file that holds it "
            "before verifying or appending"
        )
        self.key_id = key_id


class SealingError(QuireError):
    """A sealed payload or wrapped key that does not open under the key given."""


class KeyNotRestored(QuireError):
    """The key of a sealed payload did not come back when its org was restored from the archive."""


class StorageError(QuireError):
    """The database can't do what was asked of it."""


class MigrationError(StorageError):
    """The schema can't be brought to, or is not at, the version this code needs."""


class DatabaseUnavailable(StorageError):
    """The database can't be reached, or refused the work, before anything was written."""

    problem_type = UNAVAILABLE


class DatabaseUnfit(DatabaseUnavailable):
    """The database, or the way to it, is set up so that it can't keep what is promised here."""


class OutcomeUnknown(StorageError):
    """A commit whose outcome could not be read back in time.

    The entries are either all there or all absent. Retrying with the same
    idempotency key is safe and tells which.
    """

    problem_type = ProblemType("outcome-unknown", 503, "Outcome not known yet")


class ArchiveError(QuireError):
    """The target of an archive can't do what was asked of it; nothing counts as archived."""


class ArchiveMisconfigured(ArchiveError):
    """The target as it is set up can't be used: its URL, its bucket, a missing package."""


class ArchiveDenied(ArchiveError):
    """The target refused the credentials, or they do not allow what was asked."""


class ArchiveUnavailable(ArchiveError):
    """The target could not be reached, or would not work now; trying again may help."""


class ArchiveMismatch(ArchiveError):
    """What the target holds differs from what it should hold: bytes, version, retention or hold."""


class ArchiveRefused(ArchiveError):
    """What is to be archived is not what was signed: it would be wrong for ever."""


class ArchiveObjectMissing(ArchiveError):
    """Nothing is stored under the key asked for."""


class RestoreRefused(ArchiveError):
    """An org can't be restored into this database, or what is archived is not what was signed."""


class RetentionRefused(QuireError):
    """A month stays in the database: a condition for dropping it does not hold."""


class AppendRefused(QuireError):
    """An append that was refused before anything was written."""


class OrgFrozen(AppendRefused):
    """The org's trail failed an integrity check; appends wait for an operator."""

    problem_type = FROZEN

    def __init__(self, org: str, reason: str) -> None:
        super().__init__(
            f'org "{org}" is frozen: {reason}. Verify the trail, then thaw it with '
            f'"quire orgs thaw {org} --reason …"'
        )
        self.org = org
        self.reason = reason


class IdempotencyMismatch(AppendRefused):
    """An idempotency key that was used before with another body."""

    problem_type = ProblemType("idempotency-mismatch", 422, "Idempotency key reused")

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class QueueFull(AppendRefused):
    """Too much is waiting, of this org or (``everyone``) of all; ``retry_after`` is in seconds."""

    problem_type = ProblemType("too-many-requests", 429, "Too many requests")

    def __init__(self, message: str, *, retry_after: int = 1, everyone: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.everyone = everyone


class ClockUnsteady(AppendRefused):
    """The server's clock leapt: no time is given out; ``retry_after`` is in seconds."""

    problem_type = ProblemType("clock-unsteady", 503, "The server's clock is not to be trusted")

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ShuttingDown(AppendRefused):
    """The server is draining and takes no new entries."""

    problem_type = UNAVAILABLE
