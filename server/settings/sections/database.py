"""The database."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

_POSTGRES_URL = r"^postgres(ql)?://"


@dataclass(frozen=True, kw_only=True, repr=False)
class DatabaseSettings:
    """Where the database is."""

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
