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
            extra={"secret": False, "form": "an address to listen on, such as 127.0.0.1"},
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="TCP port to listen on")] = 8080
    workers: Annotated[int, Meta(ge=1, le=64, description="Server processes")] = 1
    data_dir: Annotated[
        Path, Meta(description="Directory of the keys and the embedded PostgreSQL")
    ] = Path(".quire")


@dataclass(frozen=True, kw_only=True, repr=False)
class EdgeSettings:
    """Which proxies are believed, which addresses are never blocked, and who may read the metrics."""

    trusted_proxies: Annotated[
        str,
        Meta(
            max_length=20_000,
            description="IP addresses and CIDR ranges of the reverse proxies whose word about a "
            "client's address is taken, with commas between them; none: no proxy",
            extra={
                "secret": False,
                "form": "a list of IP addresses and CIDR ranges, with commas between them",
            },
        ),
    ] = ""
    block_exempt: Annotated[
        str,
        Meta(
            max_length=20_000,
            description="IP addresses and CIDR ranges that are never blocked, with commas between "
            "them; loopback and trusted proxies never are",
            extra={
                "secret": False,
                "form": "a list of IP addresses and CIDR ranges, with commas between them",
            },
        ),
    ] = ""
    proxy_header: Annotated[
        Literal["x-forwarded-for", "forwarded"],
        Meta(description="The only header in which trusted proxies report the client's address"),
    ] = "x-forwarded-for"
    metrics_token: Annotated[
        Annotated[str, Meta(pattern=r"^[!-~]{16,1000}\Z")] | None,
        Meta(
            description="Bearer token that GET /metrics needs; none: it is read on the listener of "
            "QUIRE_METRICS_PORT only",
            extra={"form": "16 to 1,000 visible ASCII characters", "secret": True},
        ),
    ] = None
    metrics_host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address of the private listener for metrics and health",
            extra={"secret": False, "form": "an address to listen on, such as 127.0.0.1"},
        ),
    ] = "127.0.0.1"
    metrics_port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | None,
        Meta(
            description="TCP port of the private listener for metrics and health, where they need "
            "no token; none: no such listener"
        ),
    ] = None


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
                "secret": False,
                "form": (
                    "the slug of an org: 1 to 63 lower-case letters, digits and hyphens, not "
                    "beginning with a hyphen"
                ),
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
