"""Archive and retention."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, kw_only=True, repr=False)
class ArchiveSettings:
    """Where trails are archived, how the archive is locked, and which months are dropped."""

    archive_url: Annotated[
        Annotated[str, Meta(pattern=r"^((file|s3)://.+|off)$", max_length=1_000)] | None,
        Meta(
            description="Where trails are archived: file:///folder, s3://bucket/prefix, or off; "
            "none: archive in the data directory of the embedded database, off with another",
            extra={
                "secret": False,
                "form": "file:///folder, s3://bucket/prefix, or off, at most 1,000 characters",
            },
        ),
    ] = None
    archive_seconds: Annotated[
        float,
        Meta(ge=0.05, le=604_800, description="Least seconds between archive runs of one org"),
    ] = 60.0
    archive_retain_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36_500,
            description="Days for which a bucket locks each object (mode COMPLIANCE: nobody can shorten it)",
        ),
    ] = 0
    archive_legal_hold: Annotated[
        bool, Meta(description="Put each object of a bucket under legal hold")
    ] = False
    archive_s3_endpoint: Annotated[
        Annotated[str, Meta(pattern=r"^https?://")] | None,
        Meta(
            description="Object storage server of s3://; none: AWS_ENDPOINT_URL_S3, or Amazon's",
            extra={"secret": False, "form": "a URL that begins with http:// or https://"},
        ),
    ] = None
    retention_months: Annotated[
        Annotated[int, Meta(ge=1, le=1_200)] | None,
        Meta(
            description="Months that archived entries are kept in the database after their own "
            "month; none: no month is dropped"
        ),
    ] = None
    retention_unlocked: Annotated[
        bool,
        Meta(
            description="Drop months even if nothing locks their archive (a folder, ?lock=none): "
            "the only copy can then be deleted"
        ),
    ] = False
