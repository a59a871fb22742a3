"""Why a process has no register, or none that is as new as its trail: which rows are right is unknown."""

from __future__ import annotations

from ledger.blocks.block import SYSTEM_ORG
from ledger.errors import SigningKeyMissing, StorageError


class RegisterMissing(StorageError):
    """The trail `system` is missing, although there are rows that it must have recorded."""

    def __init__(self) -> None:
        super().__init__(
            "The database has orgs or API keys, but not the org `system`, whose trail records them. "
            "It was removed, or the database was made by a version of Quire that did not record "
            "them. Restore a backup of the database, or restore `system` from its archive: quire "
            "archive restore system"
        )


class RegisterCut(StorageError):
    """The trail `system` is shorter than this machine acknowledged: rows may be older than it knew."""

    def __init__(self, acknowledged: int, found: int) -> None:
        super().__init__(
            f"The trail `system` ends at seq {found}, but this machine acknowledged seq "
            f"{acknowledged}: the database was rolled back or cut. API keys that were revoked since "
            "would work again, and persons who were erased would be back. Restore a newer backup of "
            "the database. If the entries are lost for good: quire orgs accept-loss system --reason "
            '"…", on the machine that signs; then, on another machine, move acknowledged.heads away'
        )


class RegisterBehind(StorageError):
    """A row may be as an entry of `system` says whose signing key this machine lacks."""

    problem_type = SigningKeyMissing.problem_type
    retry_after = SigningKeyMissing.retry_after

    def __init__(self, seq: int, key_id: str) -> None:
        super().__init__(
            f"entry {seq} of {SYSTEM_ORG} is signed with the key {key_id}, which the keyring of this "
            "machine lacks: it can't tell which of the rows are valid that the entry may have "
            "changed. The operator adds the key here: quire keys signing add --import FILE, with the "
            "keyring file of a machine that has it. If none has it, the entry was planted in the "
            "database"
        )
        self.seq = seq
        self.key_id = key_id

    def refusal(self) -> SigningKeyMissing:
        """Return the error of an append that needs to know it."""
        return SigningKeyMissing(SYSTEM_ORG, self.seq, self.key_id)
