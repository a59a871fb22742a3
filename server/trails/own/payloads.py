"""The payloads of the entries that summarise what callers read, and who was refused."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from ledger.shapes import Seq, TimeText

READS: Final = "quire.read_summary"
REFUSED: Final = "quire.auth_refused"
OPENED: Final = "quire.payload_opened"
VERIFIED: Final = "quire.verification_done"
BUNDLED: Final = "quire.bundle_created"
SERVER: Final = "server"
KeyText = Annotated[str, Meta(examples=["key:9f86d081884c7d65"])]
Count = Annotated[int, Meta(ge=0, examples=[12])]
Part = Annotated[int, Meta(ge=1, examples=[1])]


class RouteReads(Struct, kw_only=True):
    """How often one key read by one route."""

    key: KeyText
    """The API key."""
    route: Annotated[str, Meta(examples=["listEntries"])]
    """The route, by the operationId of the API's description."""
    count: Count
    """How many requests."""
    first_seq: Seq | None
    """The least seq of an entry that was shown; null: the route shows none, or none was found."""
    last_seq: Seq | None
    """The greatest seq of an entry that was shown."""


class SilentHours(Struct, kw_only=True):
    """Hours without any read, before a summary."""

    since: TimeText
    """When the first of them began."""
    hours: Count
    """How many they are."""


class ReadSummary(Struct, kw_only=True):
    """Who read how much in one hour."""

    event_type: Literal["quire.read_summary"] = "quire.read_summary"
    actor: Literal["server"] = "server"
    action: Literal["summarise"] = "summarise"
    hour: TimeText
    """When the hour began."""
    silent: SilentHours | None
    """The hours without reads between the summary before and this one; null: there is none."""
    reads: list[RouteReads]
    """The reads, by key and route."""
    part: Part
    """Which part of the hour's summary this is."""
    parts: Part
    """How many parts it has."""


class RefusedRequests(Struct, kw_only=True):
    """How many requests of one source were refused for one reason."""

    source: Annotated[str, Meta(examples=["192.0.2.0/24"])]
    """An API key ("key:…"), else the network of the address: a /24 of IPv4, a /48 of IPv6;
    "others": all that are not listed."""
    reason: Annotated[str, Meta(examples=["invalid_key"])]
    """`no_key`, `invalid_key` (unknown, mistyped, revoked), `forbidden`, `not_found` (no such org
    for this key), `address` (none of the key's), `address_blocked` or `too_many_requests` (a
    rate limit)."""
    count: Count
    """How many requests."""


class AuthRefused(Struct, kw_only=True):
    """Requests of one hour that were refused for their API key."""

    event_type: Literal["quire.auth_refused"] = "quire.auth_refused"
    actor: Literal["server"] = "server"
    action: Literal["refuse"] = "refuse"
    hour: TimeText
    """When the hour began."""
    count: Count
    """How many requests were refused."""
    refused: list[RefusedRequests]
    """The sources with the most refused requests, at most 100 of them."""


class PayloadOpened(Struct, kw_only=True):
    """Sealed payloads that one key opened."""

    event_type: Literal["quire.payload_opened"] = "quire.payload_opened"
    actor: Literal["server"] = "server"
    action: Literal["open"] = "open"
    key: KeyText
    """The API key."""
    since: TimeText
    """When the first of them was opened."""
    until: TimeText
    """When the last of them was opened."""
    count: Count
    """How many entries these are."""
    runs: list[tuple[int, int]]
    """Their seqs, as runs of consecutive ones, both ends included."""
    unlisted: Count
    """How many more were opened, too many to be listed at once; each payload may count twice."""
    part: Part
    """Which part of the list this is."""
    parts: Part
    """How many parts it has."""


class DoneVerification(Struct, kw_only=True):
    """One verdict that a key got, once or repeatedly."""

    key: KeyText
    """The API key that asked."""
    scope: Literal["trail", "entry"]
    """Whether a trail (or a range of it) or a single entry was verified."""
    first_seq: Seq | None
    """The least seq that was verified; null: the trail was empty."""
    last_seq: Seq | None
    """The greatest seq that was verified."""
    verdict: Annotated[str, Meta(examples=["verified"])]
    """`verified`, `refuted` or `incomplete`."""
    checks: Annotated[dict[str, bool | str], Meta(examples=[{"hashes": True}])]
    """The answer of each check: true, false or "not_checked"."""
    fault_count: Count
    """How many faults were found."""
    count: Count
    """How often this verdict was given."""


class VerificationDone(Struct, kw_only=True):
    """Verifications that ended."""

    event_type: Literal["quire.verification_done"] = "quire.verification_done"
    actor: Literal["server"] = "server"
    action: Literal["verify"] = "verify"
    since: TimeText
    """When the first of them ended."""
    until: TimeText
    """When the last of them ended."""
    done: list[DoneVerification]
    """The verdicts; equal ones of one key are counted together."""


class BundleMade(Struct, kw_only=True):
    """Bundles of one selection that one key got."""

    key: KeyText
    """The API key."""
    first_seq: Seq
    """The least seq in the bundle."""
    last_seq: Seq
    """The greatest seq in the bundle."""
    entries: Count
    """How many entries it has."""
    disclosed: Annotated[list[str], Meta(examples=[["payload"]])]
    """The fields that it opens; an entry `quire.bundle_disclosed` says of which entries."""
    count: Count
    """How often it was made."""


class BundleCreated(Struct, kw_only=True):
    """Evidence bundles that were made."""

    event_type: Literal["quire.bundle_created"] = "quire.bundle_created"
    actor: Literal["server"] = "server"
    action: Literal["bundle"] = "bundle"
    since: TimeText
    """When the first of them was made."""
    until: TimeText
    """When the last of them was made."""
    bundles: list[BundleMade]
    """The bundles; equal ones of one key are counted together."""


OwnPayload = ReadSummary | AuthRefused | PayloadOpened | VerificationDone | BundleCreated
