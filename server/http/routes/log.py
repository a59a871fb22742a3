"""Serves logs in the form of C2SP tlog-tiles: checkpoint, tiles and entry bundles of each tree.

The log of an org is its signed tree, the anchor log is that of the server. An org's log needs a
key of that org unless the org made it public; for an org that the caller may not read, the answer
does not reveal that it exists.
"""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Router, get, post
from litestar.params import PathParameter
from litestar.types import ASGIApp

from ledger.core.proving import cosigned
from ledger.errors import TileError
from ledger.shapes import NOTE_EXAMPLE
from ledger.storage import entry_bundles, trees
from ledger.storage.trees import ANCHOR_LOG
from ledger.tiles import EntryTile, parse_path
from server.access.directory import NotFound
from server.access.limits.rules import Spending
from server.access.rights import May
from server.http.bodies import body_of
from server.http.caller import HttpRequest, append_permitted, log_of, services_of
from server.http.contract import OCTETS, ResponseHeader, asks, needs_no_key, octets, text
from server.http.parameters import OrgSlug
from server.http.protocol.bytes_response import BytesResponse
from server.http.protocol.response_headers import (
    CHECKPOINT_AGE,
    FOR_EVER,
    PRIVATE,
    PUBLIC,
    PUBLIC_ORG_AGE,
)

PLAIN_TEXT: Final = b"text/plain; charset=utf-8"
BINARY: Final = b"application/octet-stream"
MAX_INDEX: Final = 2**40
"""No tree has more leaves, so no tile has a greater index."""
CHECKPOINT_CACHE: Final = ResponseHeader(
    "Cache-Control",
    "A checkpoint may be kept for a second; by shared caches only where it needed no key",
    "public, max-age=1",
)
TILE_HEADERS: Final = (
    ResponseHeader(
        "Cache-Control",
        "A tile may be kept for ever, one of an org's public log for an hour; by shared caches only "
        "where it needed no key",
        "public, max-age=31536000, immutable",
    ),
    ResponseHeader(
        "Content-Encoding", "An entry bundle that is compressed says how", "gzip", always=False
    ),
)
A_CHECKPOINT: Final = {
    "text/plain": text("The newest checkpoint, a signed note (C2SP tlog-checkpoint)", NOTE_EXAMPLE)
}
A_TILE: Final = {
    OCTETS: octets("The tile: hashes of 32 bytes each; or the entry bundle: leaves with lengths")
}
MAX_ADDED_BYTES: Final = 65_535
"""Limit of one addition, as for any log that tlog-tiles serves."""

TilePath = Annotated[
    str,
    PathParameter(
        description="<level>/<index> or entries/<index>, then .p/<width> where partial; an index "
        "is three digits, and x and three digits before them for each thousand: x001/x234/067",
        schema_extra={"examples": ["0/x001/234"]},
    ),
]


@get(
    "/v1/orgs/{org:str}/log/checkpoint",
    name="org_checkpoint",
    operation_id="getLogCheckpoint",
    opt=asks(May.READ, public=True, answers={200: A_CHECKPOINT}, headers=(CHECKPOINT_CACHE,)),
)
async def org_checkpoint(request: HttpRequest, org: OrgSlug) -> ASGIApp:
    """Get the newest checkpoint of an org's log, a signed note (C2SP tlog-checkpoint)."""
    tenant, public = log_of(request, org)
    found = await trees.newest_checkpoint(services_of(request).database, tenant.id)
    if found is None:
        raise NotFound("this log has no checkpoint yet: no entry was appended, or none is signed")
    return _written(found.note, PLAIN_TEXT, CHECKPOINT_AGE, public=public)


@get(
    "/v1/orgs/{org:str}/log/tile/{tile:path}",
    name="org_tile",
    operation_id="getLogTile",
    opt=asks(May.READ, public=True, problems=(429,), answers={200: A_TILE}, headers=TILE_HEADERS),
)
async def org_tile(request: HttpRequest, org: OrgSlug, tile: TilePath) -> ASGIApp:
    """Get a tile or entry bundle of an org's log (C2SP tlog-tiles)."""
    tenant, public = log_of(request, org)
    age = PUBLIC_ORG_AGE if public else FOR_EVER
    return await _tile(request, tenant.id, tile, age, public=public)


@get(
    "/v1/log/checkpoint",
    name="anchor_checkpoint",
    operation_id="getAnchorCheckpoint",
    opt=needs_no_key(problems=(404, 503), answers={200: A_CHECKPOINT}, headers=(CHECKPOINT_CACHE,)),
)
async def anchor_checkpoint(request: HttpRequest) -> ASGIApp:
    """Get the newest anchor: the checkpoint of the public log of checkpoints, with cosignatures."""
    database = services_of(request).database
    found = await trees.newest_checkpoint(database, ANCHOR_LOG)
    if found is None:
        raise NotFound("this server has signed no anchor yet")
    return _written(await cosigned(database, found), PLAIN_TEXT, CHECKPOINT_AGE, public=True)


@get(
    "/v1/log/tile/{tile:path}",
    name="anchor_tile",
    operation_id="getAnchorTile",
    opt=needs_no_key(problems=(429, 503), answers={200: A_TILE}, headers=TILE_HEADERS),
)
async def anchor_tile(request: HttpRequest, tile: TilePath) -> ASGIApp:
    """Get a tile or entry bundle of the public log of checkpoints (C2SP tlog-tiles)."""
    return await _tile(request, ANCHOR_LOG, tile, FOR_EVER, public=True)


async def _tile(
    request: HttpRequest, org_id: int, path: str, age: bytes, *, public: bool
) -> BytesResponse:
    try:
        tile = parse_path("tile/" + path.removeprefix("/"))
    except TileError:
        raise _missing() from None
    if tile.index >= MAX_INDEX:
        raise _missing()
    if isinstance(tile, EntryTile):
        return await _bundle(request, org_id, tile, age, public=public)
    data = await entry_bundles.tile(services_of(request).database, org_id, tile)
    if data is None:
        raise _missing()
    return _written(data, BINARY, age, public=public)


async def _bundle(
    request: HttpRequest, org_id: int, tile: EntryTile, age: bytes, *, public: bool
) -> BytesResponse:
    """Return an entry bundle, compressed if the client accepts that."""
    gzipped = _accepts_gzip(request)
    data = await services_of(request).entry_bundles.read(org_id, tile, gzipped=gzipped)
    if data is None:
        raise _missing()
    headers = [(b"vary", b"accept-encoding")]
    if gzipped:
        headers.append((b"content-encoding", b"gzip"))
    return _written(data, BINARY, age, *headers, public=public)


def _missing() -> NotFound:
    return NotFound("this log does not have this tile, or not yet")


def _accepts_gzip(request: HttpRequest) -> bool:
    """Return whether Accept-Encoding (RFC 9110, section 12.5.3) names gzip without q=0."""
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
    # A shared cache must not store a response that needs a key.
    scope = PUBLIC if public else PRIVATE
    return BytesResponse(200, body, ((b"cache-control", scope + age), *headers), content_type)


@post(
    "/v1/orgs/{org:str}/log/add",
    name="add_to_log",
    status_code=200,
    operation_id="addToLog",
    opt=asks(
        May.APPEND,
        writes=True,
        spends=Spending.APPEND,
        public=True,
        raw=OCTETS,
        problems=(400, 408, 413, 423, 429),
        answers={200: {"text/plain": text("The seq of the new entry, in decimal digits", "42")}},
    ),
    request_max_body_size=MAX_ADDED_BYTES,
)
async def add_to_log(request: HttpRequest, org: OrgSlug) -> ASGIApp:
    """Append raw bytes as an event and return their index; only in the org of QUIRE_ADD_ORG."""
    services = services_of(request)
    tenant, _ = log_of(request, org)
    if org != services.settings.add_org:
        raise NotFound("this log takes no raw bytes; QUIRE_ADD_ORG names the org whose log does")
    await services.quotas.require(tenant)
    body = await body_of(request)
    append = append_permitted(request, tenant, [services.appender.added(body)])
    appended = await services.quotas.counted(tenant, 1, len(body), append)
    return BytesResponse(200, b"%d" % appended.entries[0].seq, (), PLAIN_TEXT)


router = Router(
    "/",
    route_handlers=[org_checkpoint, org_tile, anchor_checkpoint, anchor_tile, add_to_log],
    tags=["Logs"],
)
