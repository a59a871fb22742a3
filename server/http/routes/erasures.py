"""Erases a person: the name is sent in the body, where no proxy rewrites it.

A reverse proxy may decode, merge and remove parts of a path before it forwards the request, and a
changed name is the name of another person. The older route with the name in its path accepts only
names that no proxy changes.
"""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import unquote

from litestar import Router, delete, post
from litestar.params import PathParameter
from msgspec import Meta, Struct

from ledger.core.org import OrgFacts
from ledger.entry import has_control, record_id
from ledger.event import MAX_FIELD_CHARS
from ledger.shapes import RecordIdText
from server.access.administration import Conflict
from server.access.principal import Principal
from server.access.rights import May
from server.http.bodies import MAX_BYTES, body_of, json_body
from server.http.caller import HttpRequest, org_of, permitted, services_of
from server.http.contract import WRITE_PROBLEMS, asks
from server.http.parameters import OrgSlug
from server.http.problems import BadRequest

SubjectName = Annotated[
    str,
    PathParameter(
        description="Name of a person, of ASCII letters, digits and - _ ~ . @ : = , alone; "
        "any other name goes into the body of POST /v1/orgs/{org}/erasures",
        schema_extra={"examples": ["bob@example.com"]},
    ),
]
_SAFE: Final = re.compile(r"[A-Za-z0-9_~@:=,-](?:[A-Za-z0-9_~@:=,.-]*[A-Za-z0-9_~@:=,-])?")
"""Names that stay the same whether or not a proxy decodes, encodes, merges or trims the path."""
_UNSAFE: Final = (
    "a name in a path may hold only ASCII letters, digits and - _ ~ . @ : = , (no dot at its "
    "ends): a proxy could change anything else into the name of another person. Nothing was "
    'erased; send POST /v1/orgs/{org}/erasures with the body {{"subject": "…"}} instead'
)

_TWO_PLACES: Final = (
    "the name is in the path, so this request has no body: it could name another person. Nothing "
    "was erased; send the name in the body of POST /v1/orgs/{org}/erasures instead"
)


class EraseSubject(Struct, forbid_unknown_fields=True):
    """The person to forget, by the exact name that the events carry."""

    subject: Annotated[
        str, Meta(min_length=1, max_length=MAX_FIELD_CHARS, examples=["bob@example.com"])
    ]
    """The name, 1 to 1,024 characters."""


class Erased(Struct):
    """A subject that is forgotten, and the entry that says so."""

    subject: Annotated[str, Meta(examples=["bob@example.com"])]
    """The name whose key was destroyed."""
    erased: Annotated[bool, Meta(extra_json_schema={"const": True})]
    """Always true."""
    record_id: RecordIdText
    """The id of the entry that records the erasure."""


@post(
    "/v1/orgs/{org:str}/erasures",
    status_code=200,
    operation_id="createErasure",
    opt=asks(
        May.ADMINISTER,
        writes=True,
        body=EraseSubject,
        example={"subject": "ada@example.com"},
        problems=(400, 409, 423, 429, *WRITE_PROBLEMS),
    ),
)
async def create_erasure(request: HttpRequest, org: OrgSlug) -> Erased:
    """Erase a person: destroy the subject's key. All proofs stay valid."""
    tenant, principal = org_of(request, org)
    data: EraseSubject = await json_body(request)
    if has_control(data.subject):
        raise BadRequest("subject has a control character; no event has such a subject")
    return await _erase(request, tenant, principal, data.subject)


@delete(
    "/v1/orgs/{org:str}/subjects/{subject:path}",
    status_code=200,
    operation_id="eraseSubject",
    opt=asks(May.ADMINISTER, writes=True, problems=(400, 409, 423, 429)),
)
async def erase_subject(request: HttpRequest, org: OrgSlug, subject: SubjectName) -> Erased:  # noqa: ARG001 - read from the raw path
    """Erase a person whose name is in the path, for names that no proxy changes."""
    tenant, principal = org_of(request, org)
    name = _name_in_path(request, org)
    if await body_of(request):
        raise BadRequest(_TWO_PLACES.format(org=org))
    return await _erase(request, tenant, principal, name)


async def _erase(request: HttpRequest, org: OrgFacts, principal: Principal, name: str) -> Erased:
    if not org.seals:
        raise Conflict(f'org "{org.slug}" keeps plain identities; there is no key to erase')
    guard = services_of(request).guard
    erased = await permitted(request, principal, lambda by: guard.erase(org, name, by.key_id, by))
    receipt = erased.receipts()[0]
    return Erased(name, True, record_id(org.id, receipt.anchored_us, receipt.seq))


def _name_in_path(request: HttpRequest, org: str) -> str:
    """Return the percent-decoded name. Raises BadRequest for a name that a proxy could change."""
    raw = request.scope.get("raw_path", b"").partition(b"/subjects/")[2].partition(b"?")[0]
    name = unquote(raw.decode("latin-1"), errors="replace")
    if _SAFE.fullmatch(name) is None:
        raise BadRequest(_UNSAFE.format(org=org))
    return name


router = Router(
    "/",
    route_handlers=[create_erasure, erase_subject],
    tags=["Entries"],
    request_max_body_size=MAX_BYTES,
)
