"""Checkpoints and anchors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, kw_only=True, repr=False)
class SigningSettings:
    """How often checkpoints and anchors are signed."""

    checkpoints: Annotated[
        bool, Meta(description="Sign checkpoints and anchors; false: another server does")
    ] = True
    checkpoint_seconds: Annotated[
        float, Meta(ge=0.05, le=3600, description="Seconds between rounds of checkpoints")
    ] = 1.0
    checkpoint_idle_seconds: Annotated[
        float,
        Meta(
            ge=60,
            le=31_536_000,
            description="Seconds after which the newest checkpoint of an idle org is anchored again",
        ),
    ] = 86_400.0
    anchor_seconds: Annotated[
        float, Meta(ge=0.05, le=86_400, description="Seconds between anchors")
    ] = 10.0
    signing_limit_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=2_592_000,
            description="Seconds beyond the usual time that an entry may wait to be signed, "
            "anchored, timestamped and cosigned before verifications are incomplete",
        ),
    ] = 300.0
    unsigned_event_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=2_592_000,
            description="Seconds beyond QUIRE_CHECKPOINT_SECONDS that an entry may be unsigned "
            "before a security event is raised",
        ),
    ] = 60.0
    unsigned_limit_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=2_592_000,
            description="Seconds beyond QUIRE_CHECKPOINT_SECONDS that an entry may be unsigned "
            "before appends of its org are answered with 503",
        ),
    ] = 900.0


@dataclass(frozen=True, kw_only=True, repr=False)
class AttestationSettings:
    """The authority that timestamps anchors, and the witnesses that cosign them."""

    tsa_url: Annotated[
        Annotated[str, Meta(pattern=r"^https?://")] | None,
        Meta(
            description="RFC 3161 authority that timestamps anchors; none: no timestamps",
            extra={"form": "a URL that begins with http:// or https://", "secret": True},
        ),
    ] = None
    tsa_ca: Annotated[
        Path | None,
        Meta(description="PEM file of the CA certificates that timestamps are verified with"),
    ] = None
    tsa_policy: Annotated[
        Annotated[str, Meta(pattern=r"^[0-2](\.(0|[1-9][0-9]*))+$")] | None,
        Meta(
            description="OID of the policy to request from the authority; none: its default",
            extra={"secret": False, "form": "an object identifier, such as 1.3.6.1.4.1.99999.1"},
        ),
    ] = None
    tsa_seconds: Annotated[
        float, Meta(ge=1, le=86_400, description="Least seconds between timestamps of anchors")
    ] = 60.0
    tsa_renew_days: Annotated[
        int,
        Meta(ge=1, le=36_500, description="Days after which an anchor's timestamp is renewed"),
    ] = 300
    witness_policy: Annotated[
        Path | None,
        Meta(
            description="tlog-policy file of the witnesses that cosign anchors, with their URLs; "
            "none: no witnesses"
        ),
    ] = None
