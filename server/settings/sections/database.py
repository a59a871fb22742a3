"""The database."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

_POSTGRES_URL = r"^postgres(ql)?://"


@dataclass(frozen=True, kw_only=True, repr=False)
class DatabaseSettings:
    """Where the database is, and the logins of what the server's role may not do."""

    database_url: Annotated[
        Annotated[str, Meta(pattern=_POSTGRES_URL)] | None,
        Meta(
            description="PostgreSQL URL of the server's role; none: start the embedded PostgreSQL",
            extra={
                "form": "a URL of PostgreSQL: postgresql://user:password@host:5432/database",
                "secret": True,
            },
        ),
    ] = None
    database_owner_url: Annotated[
        Annotated[str, Meta(pattern=_POSTGRES_URL)] | None,
        Meta(
            description="PostgreSQL URL of the owner's role, for migrations; none: "
            "QUIRE_DATABASE_URL",
            extra={
                "form": "a URL of PostgreSQL: postgresql://user:password@host:5432/database",
                "secret": True,
            },
        ),
    ] = None
    database_signer_url: Annotated[
        Annotated[str, Meta(pattern=_POSTGRES_URL)] | None,
        Meta(
            description="PostgreSQL URL of the role quire_signer, "
            "by which only the signer connects; needed with QUIRE_DATABASE_URL where checkpoints are signed",
            extra={
                "form": "a URL of PostgreSQL: postgresql://user:password@host:5432/database",
                "secret": True,
            },
        ),
    ] = None
    database_retention_url: Annotated[
        Annotated[str, Meta(pattern=_POSTGRES_URL)] | None,
        Meta(
            description="PostgreSQL URL of the role quire_retention, "
            "which seals months and drops them; needed with QUIRE_DATABASE_URL where QUIRE_RETENTION_MONTHS is set",
            extra={
                "form": "a URL of PostgreSQL: postgresql://user:password@host:5432/database",
                "secret": True,
            },
        ),
    ] = None
