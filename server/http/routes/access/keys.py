"""API keys of orgs: made, listed, changed, rotated and revoked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final

from litestar import Router, delete, get, patch, post
from litestar.params import QueryParameter
from msgspec import UNSET

from ledger.core.org import OrgFacts
from ledger.entry import rfc3339, to_datetime
from ledger.errors import InvalidTime
from ledger.storage.api_keys import ApiKeyRecord, ApiKeyRow
from ledger.times import bound
from server.access.directory import NotFound, no_such_org
from server.access.keys.changes import LIFETIME, LONGEST, SHORTEST, AskedKey, KeyEnded
from server.access.limits.rules import Spending
from server.access.principal import Principal
from server.access.rights import MUST_EXPIRE, May, role_of
from server.addresses import networks
from server.http.api.keys import (
    ChangeKey,
    CreateKey,
    KeyBody,
    KeyList,
    NewKeyBody,
    QwedRotation,
    RotatedKeyBody,
    RotateKey,
    key_body,
    new_key_body,
    rotated_key_body,
)
from server.http.bodies import MAX_BYTES, body_of, decoded, json_body
from server.http.caller import (
    HttpRequest,
    actor_of,
    clean,
    org_of,
    permitted,
    principal_of,
    services_of,
)
from server.http.contract import WRITE_PROBLEMS, any_key, asks
from server.http.parameters import KeyCursor, KeyId, Limit, OrgSlug
from server.http.problems import BadRequest
from server.trails.services import Services

MISSING: Final = "this org has no valid key with this id"
OVERLAP_HOURS: Final = 24
"""How long the old key of a rotation stays valid, if nobody says."""
WRITES: Final = (400, 409, 423, 429, *WRITE_PROBLEMS)
LASTS: Final = "a key with this role must expire: give expires_in_days, from 1 to 365"


@post(
    "/v1/orgs/{org:str}/keys",
    operation_id="createKey",
    opt=asks(
        May.ADMINISTER,
        writes=True,
        spends=Spending.KEYS,
        body=CreateKey,
        example={"name": "billing service", "role": "member", "expires_in_days": 90},
        problems=WRITES,
    ),
)
async def create_key(request: HttpRequest, org: OrgSlug) -> NewKeyBody:
    """Create an API key of an org; the key is shown only once."""
    tenant, principal = org_of(request, org)
    data: CreateKey = await json_body(request)
    services = services_of(request)
    lifetime = _lifetime(data, principal, services.key_changes.now())
    new = services.authenticator.new_key()
    asked = AskedKey(
        new.key_id,
        tenant.id,
        clean("name", data.name),
        data.role,
        new.secret_hash,
        lifetime,
        _ranges(data.allowed_cidrs),
    )
    key = await permitted(
        request,
        principal,
        lambda by: services.key_changes.add(asked, org, actor_of(request), by=by),
    )
    return new_key_body(key, new.token)


@get("/v1/orgs/{org:str}/keys", operation_id="listKeys", opt=asks(May.LIST_KEYS))
async def list_keys(
    request: HttpRequest, org: OrgSlug, cursor: KeyCursor = "", limit: Limit = 100
) -> KeyList:
    """List the API keys of an org, oldest first, with revoked and expired ones."""
    tenant, _ = org_of(request, org)
    services = services_of(request)
    keys = await services.authenticator.keys.page(tenant.id, clean("cursor", cursor), limit)
    now = _now(services)
    following = keys[-1].id if len(keys) == limit else None
    return KeyList([key_body(key, now, tenant.max_key_age_days) for key in keys], following)


@patch(
    "/v1/orgs/{org:str}/keys/{key_id:str}",
    operation_id="changeKey",
    opt=asks(
        May.ADMINISTER,
        writes=True,
        body=ChangeKey,
        example={"name": "billing service 2"},
        problems=WRITES,
    ),
)
async def change_key(request: HttpRequest, org: OrgSlug, key_id: KeyId) -> KeyBody:
    """Change the name of an API key, or the addresses from which it may be used."""
    tenant, principal = org_of(request, org)
    data: ChangeKey = await json_body(request)
    if data.name is None and data.allowed_cidrs is None:
        raise BadRequest("give name or allowed_cidrs: nothing else of a key can be changed")
    name = None if data.name is None else clean("name", data.name)
    ranges = None if data.allowed_cidrs is None else _ranges(data.allowed_cidrs)
    services = services_of(request)
    key = await _found(services, tenant, key_id)
    changed = await permitted(
        request,
        principal,
        lambda by: services.key_changes.change(
            key, org, actor_of(request), name=name, allowed_cidrs=ranges, by=by
        ),
    )
    _announce(services, key_id)
    return key_body(key._replace(row=changed), _now(services), tenant.max_key_age_days)


@post(
    "/v1/orgs/{org:str}/keys/{key_id:str}/rotate",
    operation_id="rotateKey",
    opt=asks(
        May.ROTATE_OWN,
        writes=True,
        spends=Spending.KEYS,
        body=RotateKey,
        body_required=False,
        example={"overlap_hours": 24},
        problems=WRITES,
    ),
)
async def rotate_key(request: HttpRequest, org: OrgSlug, key_id: KeyId) -> RotatedKeyBody:
    """Replace an API key by a new one, shown only once; each key may replace itself."""
    tenant, principal = org_of(request, org)
    body = await body_of(request)
    asked = decoded(body, RotateKey) if body.strip() else RotateKey()
    new, old, token = await _rotate(request, tenant, principal, key_id, asked.overlap_hours)
    return rotated_key_body(new, old, token)


@post(
    "/admin/keys/rotate",
    status_code=200,
    operation_id="rotateKeyAsQwed",
    opt=any_key(writes=True, spends=Spending.KEYS, problems=(400, 404, 409, 423, 429)),
)
async def rotate_as_qwed(
    request: HttpRequest,
    key_id: Annotated[
        str,
        QueryParameter(
            max_length=64,
            description="Id of the API key",
            schema_extra={"examples": ["9f86d081884c7d65"]},
        ),
    ],
    org: Annotated[
        str | None,
        QueryParameter(
            max_length=64,
            description="Slug of the key's org, which a platform key must name",
            schema_extra={"examples": ["acme"]},
        ),
    ] = None,
) -> QwedRotation:
    """Replace an API key by a new one, with QWED's path and answer; the old one ends in 24 hours."""
    principal = principal_of(request)
    tenant = await _tenant(services_of(request), principal, org)
    new, _, token = await _rotate(request, tenant, principal, key_id, OVERLAP_HOURS)
    return QwedRotation("rotated", key_id, new.id, f"{token[:10]}...{token[-4:]}", token)


@delete(
    "/v1/orgs/{org:str}/keys/{key_id:str}",
    operation_id="revokeKey",
    opt=asks(
        May.ADMINISTER,
        writes=True,
        problems=(400,),
        meanings={204: "The key is revoked"},
    ),
)
async def revoke_key(request: HttpRequest, org: OrgSlug, key_id: KeyId) -> None:
    """Revoke an API key, on every server at once."""
    tenant, principal = org_of(request, org)
    services = services_of(request)
    key = await _found(services, tenant, key_id)
    if key.row.revoked_at is not None or not await permitted(
        request,
        principal,
        lambda by: services.key_changes.revoke(key, org, actor_of(request), by=by),
    ):
        raise NotFound(MISSING)
    _announce(services, key_id)


async def _rotate(
    request: HttpRequest, tenant: OrgFacts, principal: Principal, key_id: str, overlap_hours: int
) -> tuple[ApiKeyRow, ApiKeyRow, str]:
    """Rotate a key of an org; return the new key, the old one, and the new key's token."""
    services = services_of(request)
    key = await _found(services, tenant, key_id)
    if key_id != principal.key_id:
        principal.require(May.ADMINISTER)
    if not key.is_authentic:
        raise KeyEnded(f"the row of API key {key_id} was changed in the database: make another key")
    new = services.authenticator.new_key()
    made, old = await permitted(
        request,
        principal,
        lambda by: services.key_changes.rotate(
            key,
            new,
            tenant.slug,
            actor_of(request),
            overlap=timedelta(hours=overlap_hours),
            may_last=by.may(May.LASTING_KEYS),
            by=by,
        ),
    )
    _announce(services, key_id)
    return made, old, new.token


async def _tenant(services: Services, principal: Principal, slug: str | None) -> OrgFacts:
    """Return the org of a request that names none in its path. Raises NotFound, BadRequest."""
    if slug is not None:
        return await services.directory.org(slug, principal, May.ROTATE_OWN)
    if principal.org_id is None:
        raise BadRequest("a platform key belongs to no org: name the org of the key with ?org=")
    org = await services.directory.by_id(principal.org_id)
    if org is None:
        raise no_such_org("")
    return org


async def _found(services: Services, tenant: OrgFacts, key_id: str) -> ApiKeyRecord:
    """Return a key of an org. Raises NotFound."""
    key = (
        await services.authenticator.keys.find(key_id)
        if key_id.isascii() and key_id.isalnum()
        else None
    )
    if key is None or key.org_id != tenant.id:
        raise NotFound(MISSING)
    return key


def _announce(services: Services, key_id: str) -> None:
    """Let this process look at a changed key at once; others are notified by the database."""
    services.authenticator.forget(key_id)
    services.live.changed()


def _now(services: Services) -> datetime:
    return to_datetime(services.authenticator.validity.now_us())


def _lifetime(data: CreateKey, principal: Principal, now: datetime) -> timedelta | datetime | None:
    """Return how long a key is asked to be valid, None for ever. Raises BadRequest, Forbidden."""
    days, at = data.expires_in_days, data.expires_at
    if days is not UNSET and at is not UNSET:
        raise BadRequest("give expires_in_days or expires_at, not both")
    if days is None or at is None:
        if role_of(data.role) in MUST_EXPIRE:
            raise BadRequest(f"role {data.role}: {LASTS}")
        principal.require(May.LASTING_KEYS)
        return None
    if isinstance(days, int):
        return timedelta(days=days)
    return _end(at, now) if isinstance(at, str) else LIFETIME


def _end(text: str, now: datetime) -> datetime:
    """Return the time at which a key is asked to expire. Raises BadRequest."""
    try:
        end = bound(text)
    except InvalidTime as error:
        raise BadRequest(f"expires_at {error}") from None
    if not now + SHORTEST <= end <= now + LONGEST:
        raise BadRequest(
            f"expires_at must be 1 to 365 days ahead: from {rfc3339(now + SHORTEST)} to "
            f"{rfc3339(now + LONGEST)}"
        )
    return end


def _ranges(given: list[str]) -> str:
    """Return ranges of addresses in their normal form, as they are stored. Raises BadRequest."""
    for index, text in enumerate(given):
        if "," in text or text != text.strip():
            raise BadRequest(f"allowed_cidrs[{index}] must be one IP address or CIDR range")
    try:
        found = networks(",".join(given))
    except ValueError as error:
        raise BadRequest(f"allowed_cidrs: {error}") from None
    return ",".join(dict.fromkeys(map(str, found)))


router = Router(
    "/",
    route_handlers=[create_key, list_keys, change_key, rotate_key, rotate_as_qwed, revoke_key],
    tags=["Orgs and keys"],
    request_max_body_size=MAX_BYTES,
)
