"""Logs as C2SP tlog-tiles serves them: checkpoint, tiles and entry bundles of each tree.

The log of an org is its signed tree, the anchor log is that of the server. An
org's log needs a key of that org unless the org made it public; of an org that
the caller may not read nothing is told, not even that it is there.
"""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Router, get, post
from litestar.params import PathParameter
from litestar.types import ASGIApp

from ledger.core.proving import cosigned
from ledger.errors import TileError
from ledger.storage import entry_bundles, trees
from ledger.storage.trees import ANCHOR_LOG
from ledger.tiles import EntryTile, parse_path
from server.access.directory import NotFound
from server.access.rights import May
from server.http.bodies import body_of
from server.http.caller import HttpRequest, log_of, services_of
from server.http.contract import BYTES, OCTETS, TEXT, asks, needs_no_key
from server.http.parameters import OrgSlug
from server.http.protocol.bytes_response import BytesResponse

PLAIN_TEXT: Final = b"text/plain; charset=utf-8"
BINARY: Final = b"application/octet-stream"
MAX_INDEX: Final = 2**40
"""No tree has a leaf beyond, so no tile either."""
CHECKPOINT_AGE: Final = b"max-age=1"
FOR_EVER: Final = b"max-age=31536000, immutable"
PUBLIC_ORG_AGE: Final = b"max-age=3600"
"""What is public of an org may become private: caches of others let go of it within the hour."""
MAX_ADDED_BYTES: Final = 65_535
"""Of one addition, as in any log whose entries tlog-tiles serves."""

TilePath = Annotated[
    str,
    PathParameter(
        description="<level>/<index> or entries/<index>, then .p/<width> where partial; an index "
        "is three digits, and x and three digits before them for each thousand: x001/x234/067"
    ),
]


@get(
    "/v1/orgs/{org:str}/log/checkpoint",
    name="org_checkpoint",
    operation_id="getLogCheckpoint",
    opt=asks(May.READ, public=True, answers={200: {"text/plain": TEXT}}),
)
async def org_checkpoint(request: HttpRequest, org: OrgSlug) -> ASGIApp:
    """The newest checkpoint of an org's log, a signed note (C2SP tlog-checkpoint)."""
    tenant, public = log_of(request, org)
    found = await trees.newest_checkpoint(services_of(request).database, tenant.id)
    if found is None:
        raise NotFound("this log has no checkpoint yet: nothing was appended, or just now")
    return _written(found.note, PLAIN_TEXT, CHECKPOINT_AGE, public=public)


@get(
    "/v1/orgs/{org:str}/log/tile/{tile:path}",
    name="org_tile",
    operation_id="getLogTile",
    opt=asks(May.READ, public=True, problems=(429,), answers={200: {OCTETS: BYTES}}),
)
async def org_tile(request: HttpRequest, org: OrgSlug, tile: TilePath) -> ASGIApp:
    """A tile or entry bundle of an org's log (C2SP tlog-tiles)."""
    tenant, public = log_of(request, org)
    age = PUBLIC_ORG_AGE if public else FOR_EVER
    return await _tile(request, tenant.id, tile, age, public=public)


@get(
    "/v1/log/checkpoint",
    name="anchor_checkpoint",
    operation_id="getAnchorCheckpoint",
    opt=needs_no_key(problems=(404, 503), answers={200: {"text/plain": TEXT}}),
)
async def anchor_checkpoint(request: HttpRequest) -> ASGIApp:
    """The newest anchor: the checkpoint of the public log of checkpoints, with cosignatures."""
    database = services_of(request).database
    found = await trees.newest_checkpoint(database, ANCHOR_LOG)
    if found is None:
        raise NotFound("nothing was anchored yet")
    return _written(await cosigned(database, found), PLAIN_TEXT, CHECKPOINT_AGE, public=True)


@get(
    "/v1/log/tile/{tile:path}",
    name="anchor_tile",
    operation_id="getAnchorTile",
    opt=needs_no_key(problems=(429, 503), answers={200: {OCTETS: BYTES}}),
)
async def anchor_tile(request: HttpRequest, tile: TilePath) -> ASGIApp:
    """A tile or entry bundle of the public log of checkpoints (C2SP tlog-tiles)."""
    return await _tile(request, ANCHOR_LOG, tile, FOR_EVER, public=True)


async def _tile(
    request: HttpRequest, org_id: int, path: str, age: bytes, *, public: bool
) -> BytesResponse:
    try:
        wanted = parse_path("tile/" + path.removeprefix("/"))
    except TileError:
        raise _missing() from None
    if wanted.index >= MAX_INDEX:
        raise _missing()
    if isinstance(wanted, EntryTile):
        return await _bundle(request, org_id, wanted, age, public=public)
    data = await entry_bundles.tile(services_of(request).database, org_id, wanted)
    if data is None:
        raise _missing()
    return _written(data, BINARY, age, public=public)


async def _bundle(
    request: HttpRequest, org_id: int, wanted: EntryTile, age: bytes, *, public: bool
) -> BytesResponse:
    """An entry bundle, compressed for those who take that."""
    gzipped = _takes_gzip(request)
    data = await services_of(request).entry_bundles.read(org_id, wanted, gzipped=gzipped)
    if data is None:
        raise _missing()
    headers = [(b"vary", b"accept-encoding")]
    if gzipped:
        headers.append((b"content-encoding", b"gzip"))
    return _written(data, BINARY, age, *headers, public=public)


def _missing() -> NotFound:
    return NotFound("this log has no such tile, or not yet")


def _takes_gzip(request: HttpRequest) -> bool:
    """Whether Accept-Encoding (RFC 9110, section 12.5.3) names gzip and does not rule it out."""
    for name, value in request.scope["headers"]:
        if name == b"accept-encoding":
            for choice in value.lower().split(b","):
                coding, _, quality = choice.partition(b";")
                if coding.strip() == b"gzip":
                    return quality.replace(b" ", b"").rstrip(b"0") not in (b"q=", b"q=0.")
    return False


def _written(
    body: bytes,
    content_type: bytes,
    age: bytes,
    *headers: tuple[bytes, bytes],
    public: bool,
) -> BytesResponse:
    # A cache that many share must not keep what needs a key.
    scope = b"public, " if public else b"private, "
    return BytesResponse(200, body, ((b"cache-control", scope + age), *headers), content_type)


@post(
    "/v1/orgs/{org:str}/log/add",
    name="add_to_log",
    status_code=200,
    operation_id="addToLog",
    opt=asks(
        May.APPEND,
        writes=True,
        public=True,
        raw=OCTETS,
        problems=(400, 408, 413, 423, 429),
        answers={200: {"text/plain": TEXT}},
    ),
    request_max_body_size=MAX_ADDED_BYTES,
)
async def add_to_log(request: HttpRequest, org: OrgSlug) -> ASGIApp:
    """Append raw bytes as an event and answer their index; only in the org of QUIRE_ADD_ORG."""
    services = services_of(request)
    tenant, _ = log_of(request, org)
    if org != services.settings.add_org:
        raise NotFound("nothing is added to this log here; QUIRE_ADD_ORG names the one it is for")
    appended = await services.appender.append(
        tenant, [services.appender.added(await body_of(request))]
    )
    return BytesResponse(200, b"%d" % appended.entries[0].seq, (), PLAIN_TEXT)


router = Router(
    "/",
    route_handlers=[org_checkpoint, org_tile, anchor_checkpoint, anchor_tile, add_to_log],
    tags=["Logs"],
)
