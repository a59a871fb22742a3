"""Why a process does not begin with a register: nothing would say which rows are right."""

from __future__ import annotations

from ledger.errors import StorageError


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
