"""Every error Quire raises on purpose, as one tree.

::

    QuireError
    ├── FormatError                 bytes that do not follow their format
    │   ├── CheckpointError         text that is not a checkpoint, or is another log's
    │   ├── EvidenceError           an evidence bundle that can't be read or written
    │   ├── KeyHistoryError         a log's key history that does not verify
    │   │   └── ForeignHistory      a history of another log than the pinned one
    │   ├── InvalidTime             text that is not a time, or a time out of range
    │   ├── MalformedLeaf
    │   ├── MalformedRecordId
    │   ├── MalformedSealedPayload
    │   ├── NoteError               bytes that are not a signed note, or not a note key
    │   │   ├── InvalidSignature    a known key's signature that does not verify
    │   │   └── UnsignedNote        no signature by a known key
    │   ├── ProofError              a tlog-proof file that can't be read or written
    │   ├── SubmissionError         a malformed request to a witness
    │   ├── TrustPolicyError        a tlog-policy file that can't be used
    │   └── TileError               a malformed tile, entry bundle or path
    ├── MerkleError                 a proof that does not hold, or an impossible tree
    ├── TimestampError              an RFC 3161 token that does not prove its time
    ├── InvalidEvent                an event that the caller must correct
    │   └── PayloadTooLarge
    ├── KeyringError                signing or master keys that can't be used
    │   ├── MissingKey
    │   ├── WeakKey
    │   ├── AmbiguousActiveKey
    │   ├── LogKeyError             log keys that can't be used
    │   └── UnknownKey
    ├── SealingError                a payload or key that can't be decrypted
    ├── StorageError                a database operation failed
    │   ├── MigrationError
    │   ├── DatabaseUnavailable
    │   │   └── DatabaseAway        a restart, a failover or a broken connection
    │   └── OutcomeUnknown          a commit whose outcome is not known yet
    ├── ArchiveError                an operation on an archive's target failed
    │   ├── ArchiveMisconfigured    the target's configuration can't be used
    │   ├── ArchiveDenied           the target refused the credentials
    │   ├── ArchiveUnavailable      network, throttling, full disk: a retry may help
    │   ├── ArchiveMismatch         the target's content or answer differs from the expected one
    │   ├── ArchiveRefused          the trail is faulty and is not archived in this state
    │   ├── ArchiveObjectMissing    nothing is stored under the key
    │   └── RestoreRefused          an org can't be restored here, or not from this archive
    ├── RetentionRefused            a month stays in the database, and why
    └── AppendRefused               nothing was written; the trail is unchanged
        ├── ClockUnsteady           the server's clock can't be trusted now
        ├── OrgFrozen
        ├── SigningKeyMissing       another machine signed with a key that this one lacks
        ├── IdempotencyMismatch
        ├── QueueFull
        └── ShuttingDown

Some modules define further errors below these: MalformedQwedRow,
QwedSourceError, VerificationFailed, StaleSeal, the errors of ``ledger.client``.
The message is for a person and says what to do next.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple


class ProblemType(NamedTuple):
    """The problem (RFC 9457) by which the API reports an error: its stable type, status, title.

    ``example`` is the detail of one such problem, for the description of the API.
    """

    slug: str
    status: int
    title: str
    example: str


INVALID_REQUEST: Final = ProblemType(
    "invalid-request", 400, "Invalid request", "limit must be at least 1"
)
NOT_FOUND: Final = ProblemType("not-found", 404, "Not found", "this org has no such entry")
FROZEN: Final = ProblemType(
    "org-frozen",
    423,
    "The org is frozen",
    'org "acme" is frozen: entry 41 is missing. Verify the trail, then thaw it with '
    '"quire orgs thaw acme --reason …"',
)
UNAVAILABLE: Final = ProblemType(
    "unavailable",
    503,
    "Temporarily unavailable",
    "the database can't do this now; nothing was written, so retry shortly",
)


class QuireError(Exception):
    """Base of all errors that Quire raises on purpose.

    ``problem_type`` is the API's answer; subclasses inherit it. None: the API
    does not describe the error to callers.
    """

    problem_type: ClassVar[ProblemType | None] = None


class FormatError(QuireError):
    """Bytes or text that do not follow the format they claim to be in."""


class EvidenceError(FormatError):
    """An evidence bundle, or a part of a bundle, that can't be read or written."""


class InvalidTime(FormatError):
    """Text that is not a time, or a time outside of the years 1 to 9999 in UTC."""


class MalformedLeaf(FormatError):
    """Leaf bytes that are not the canonical encoding of a version 1 leaf."""


class MalformedRecordId(FormatError):
    """Text that is not a record id."""


class MalformedSealedPayload(FormatError):
    """Sealed payload bytes with a wrong version or length."""


class ProofError(FormatError):
    """A transparency log proof that can't be read, or values that no proof file can hold."""


class TileError(FormatError):
    """A malformed tile, entry bundle or path."""


class MerkleError(QuireError):
    """A Merkle proof that does not hold, or coordinates that no tree has."""


class NoteError(FormatError):
    """Bytes that are not a signed note, or a note key that can't be read."""


class InvalidSignature(NoteError):
    """A signature by a known key that does not verify: the note was altered or forged."""


class UnsignedNote(NoteError):
    """A note without a signature by a known key."""


class CheckpointError(FormatError):
    """Text that is not a checkpoint, or a checkpoint of another log."""


class TrustPolicyError(FormatError):
    """A tlog-policy file that can't be used; the message names the line."""


class SubmissionError(FormatError):
    """A request to a witness that does not follow C2SP tlog-witness."""


class TimestampError(QuireError):
    """A timestamp response or token that can't be read, or does not prove its time."""


class KeyHistoryError(FormatError):
    """A history of a log's keys, or its pins, that can't be read or does not verify."""


class ForeignHistory(KeyHistoryError):
    """A key history that verifies but differs from the pinned one."""


class HistoryBeforePins(ForeignHistory):
    """A key history that ends before the first pinned key: neither confirmed nor refuted."""


class InvalidEvent(QuireError):
    """An event that the caller must correct before it can be recorded.

    ``index`` is the event's 0-based place in its request, ``field`` the name of
    the offending field; both are None if they do not apply.
    """

    problem_type = ProblemType(
        "invalid-event",
        400,
        "Invalid event",
        "timestamp must be an RFC 3339 time such as 2026-01-31T12:00:00Z",
    )

    def __init__(self, message: str, *, field: str | None = None, index: int | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.index = index


class PayloadTooLarge(InvalidEvent):
    """An event, or a request, that exceeds a size limit."""

    problem_type = ProblemType(
        "payload-too-large",
        413,
        "Too large",
        "too many events in one request; at most 10000 are allowed, send several requests",
    )


class KeyringError(QuireError):
    """Signing or master keys that can't be used."""


class MissingKey(KeyringError):
    """A required key is not configured."""


class WeakKey(KeyringError):
    """A key shorter than 32 bytes."""


class AmbiguousActiveKey(KeyringError):
    """A keyring with no active key, or with several."""


class LogKeyError(KeyringError):
    """Keys for checkpoints and anchors that can't be used."""


class UnknownKey(KeyringError):
    """A key id that the keyring does not hold."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"signing key {key_id!r} is not in the keyring; add the key file that holds it "
            "before verifying or appending"
        )
        self.key_id = key_id


class SealingError(QuireError):
    """A sealed payload or wrapped key that the given key does not open."""


class KeyNotRestored(QuireError):
    """The key of a sealed payload is missing since its org was restored from the archive."""


class StorageError(QuireError):
    """A database operation failed."""


class MigrationError(StorageError):
    """The schema is not at the version that this code needs, or can't be migrated to it."""


class DatabaseUnavailable(StorageError):
    """The database could not be reached, or refused the operation, before anything was written."""

    problem_type = UNAVAILABLE


class DatabaseAway(DatabaseUnavailable):
    """The connection broke or was refused: a restart or failover of the database, or its network."""


class DatabaseUnfit(DatabaseUnavailable):
    """The configuration of the database, or of a proxy before it, breaks Quire's guarantees."""


class OutcomeUnknown(StorageError):
    """A commit whose outcome could not be read back in time.

    Either all of the entries are stored or none is. A retry with the same
    idempotency key is safe and shows which.
    """

    problem_type = ProblemType(
        "outcome-unknown",
        503,
        "Outcome not known yet",
        "the server shut down before it knew whether this was written; retry with the same "
        "idempotency key to find out",
    )


class ArchiveError(QuireError):
    """An operation on an archive's target failed; nothing counts as archived."""


class ArchiveMisconfigured(ArchiveError):
    """The target's configuration can't be used: its URL, its bucket, a missing package."""


class ArchiveDenied(ArchiveError):
    """The target refused the credentials, or they do not permit the operation."""


class ArchiveUnavailable(ArchiveError):
    """The target could not be reached, or refused to work for now; a retry may help."""


class ArchiveMismatch(ArchiveError):
    """The target's object differs from the expected one: bytes, version, retention or hold."""


class ArchiveRefused(ArchiveError):
    """The data to archive differs from the signed data: the archive could never be corrected."""


class ArchiveObjectMissing(ArchiveError):
    """Nothing is stored under the requested key."""


class RestoreRefused(ArchiveError):
    """An org can't be restored into this database, or its archive differs from the signed data."""


class RetentionRefused(QuireError):
    """A month can't be dropped from the database: a condition does not hold."""


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


class SigningKeyMissing(AppendRefused):
    """An entry is signed with a key that this machine's keyring lacks; ``retry_after`` in seconds.

    The trail may be right and is not frozen: a machine that has the key goes on with it.
    """

    problem_type = ProblemType(
        "signing-key-missing",
        503,
        "A signing key is missing on this machine",
        "entry 41 of acme is signed with the key k-5b1c09d2e7aa, which the keyring of this machine "
        "lacks: nothing was written. The operator adds the key here: quire keys signing add "
        "--import FILE, with the keyring file of a machine that has it",
    )
    retry_after = 5

    def __init__(self, org: str, seq: int, key_id: str) -> None:
        super().__init__(
            f"entry {seq} of {org} is signed with the key {key_id}, which the keyring of this "
            "machine lacks: nothing was written. The operator adds the key here: quire keys signing "
            "add --import FILE, with the keyring file of a machine that has it"
        )
        self.key_id = key_id


class IdempotencyMismatch(AppendRefused):
    """An idempotency key that an earlier request used with another body."""

    problem_type = ProblemType(
        "idempotency-mismatch",
        422,
        "Idempotency key reused",
        "this idempotency key was used before with another body; use a new key for a new event",
    )

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class QueueFull(AppendRefused):
    """Too many entries wait, of this org or (``everyone``) of all; ``retry_after`` in seconds."""

    problem_type = ProblemType(
        "too-many-requests",
        429,
        "Too many requests",
        "5000 events of this org are waiting already; retry shortly",
    )

    def __init__(self, message: str, *, retry_after: int = 1, everyone: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.everyone = everyone


class ClockUnsteady(AppendRefused):
    """The server's clock leapt, so entries get no time; ``retry_after`` is in seconds."""

    problem_type = ProblemType(
        "clock-unsteady",
        503,
        "The server's clock can't be trusted",
        "the server's clock leapt less than a day ago: irreversible work waits for another 90 "
        "minutes",
    )

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ShuttingDown(AppendRefused):
    """The server is shutting down and accepts no new entries."""

    problem_type = UNAVAILABLE
