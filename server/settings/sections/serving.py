"""How the server listens, runs and logs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True, kw_only=True, repr=False)
class ListeningSettings:
    """Where the server listens, with how many processes, and where its files are."""

    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address to listen on",
            extra={"form": "an address to listen on, such as 127.0.0.1"},
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="TCP port to listen on")] = 8080
    workers: Annotated[int, Meta(ge=1, le=64, description="Server processes")] = 1
    data_dir: Annotated[
        Path, Meta(description="Directory of the keys and the embedded PostgreSQL")
    ] = Path(".quire")


@dataclass(frozen=True, kw_only=True, repr=False)
class RunningSettings:
    """How a server process ends, uses the database, and logs."""

    shutdown_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="Seconds for open requests to finish at shutdown")
    ] = 30
    pool_size: Annotated[
        int, Meta(ge=2, le=1000, description="Database connections of one server process")
    ] = 10
    add_org: Annotated[
        Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] | None,
        Meta(
            description="Org whose log accepts raw bytes, from anybody if the log is public, for "
            "load tests; none: no org",
            extra={
                "form": (
                    "the slug of an org: 1 to 63 lower-case letters, digits and hyphens, not "
                    "beginning with a hyphen"
                )
            },
        ),
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        Meta(description="Lowest level that is logged"),
    ] = "info"
    log_format: Annotated[
        Literal["console", "json"], Meta(description="Format of the log lines: console or json")
    ] = "console"
