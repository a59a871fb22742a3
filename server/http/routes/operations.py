"""Routes for operators and monitoring: liveness, readiness, metrics, the API description."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from litestar import MediaType, Response, Router, get
from litestar.params import PathParameter
from litestar.types import ASGIApp
from msgspec import UNSET, UnsetType

from ledger.evidence import page
from server import metrics
from server.access.directory import NotFound
from server.http.caller import HttpRequest, services_of
from server.http.contract import needs_no_key, text
from server.http.operators import (
    database_gauges,
    database_states,
    may_see_details,
    require_metrics_reader,
)
from server.http.protocol.bytes_response import BytesResponse
from server.http.protocol.response_headers import REVALIDATED, STATIC_AGE
from server.trails.appending import JSON

STATIC: Final = Path(__file__).parents[1] / "static"
DOCS_PAGE: Final = (STATIC / "docs.html").read_bytes()
_TYPES: Final = {
    "docs.js": "text/javascript",
    "swagger-ui/swagger-ui.css": "text/css",
    "swagger-ui/swagger-ui-bundle.js": "text/javascript",
}
ASSETS: Final = {name: ((STATIC / name).read_bytes(), kind) for name, kind in _TYPES.items()}
"""The files of the page: their bytes, in memory once for all answers, and their media types."""
DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The page sends requests with a key typed into it: it may reach only this server."""

VERIFY_PAGE: Final = page.verify_page()
VERIFY_HEADERS: Final = {
    # The policy in the page itself, and that no other page may frame it.
    "Content-Security-Policy": f"{page.POLICY}; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": REVALIDATED.decode(),
}


Part = Annotated[str, msgspec.Meta(examples=["ok"])] | UnsetType


class Readiness(msgspec.Struct):
    """Whether this process can serve. The other members are for operators only: "ok", or why not."""

    ready: bool
    """Whether every part is "ok"."""
    database: Part = UNSET
    """"ok", or "unreachable"."""
    migrations: Part = UNSET
    """"ok", "unreachable", or how the schema of the database differs from this version's."""
    sequencer: Part = UNSET
    """"ok", or "not running"."""
    clock: Part = UNSET
    """"ok", or that the clock leapt and appends wait."""
    appends: Part = UNSET
    """"ok", "not tried", or why a write failed."""
    signing: Part = UNSET
    """"ok", or that nothing at all is signed."""


class Liveness(msgspec.Struct):
    """The process answers."""

    status: Literal["ok"] = "ok"
    """Always "ok"."""


NOT_READY: Final = {"ready": False}


@get("/livez", operation_id="live", opt=needs_no_key(probe=True), tags=["Operations"])
async def livez() -> Liveness:
    """Report that the process runs and its event loop turns."""
    return Liveness()


@get(
    "/readyz",
    operation_id="ready",
    opt=needs_no_key(
        probe=True,
        answers={
            200: {JSON: Readiness},
            503: {JSON: Readiness},
        },
        examples={503: NOT_READY},
        meanings={
            200: "This process can serve",
            503: "This process can't serve; to an operator the body says why",
        },
    ),
    tags=["Operations"],
)
async def readyz(request: HttpRequest) -> Response[Readiness]:
    """Report whether this process can serve; operators also get each part that this depends on."""
    services = services_of(request)
    database, migrations, appends = await services.part(database_states).get()
    sequencer = "ok" if services.sequencer.healthy else "not running"
    clock = "ok" if services.clock.wall.leap is None else "it leapt: appends wait"
    signing = "nothing is signed" if services.lateness.stands_still else "ok"
    ready = {database, migrations, sequencer, clock, appends, signing} == {"ok"}
    found = Readiness(ready)
    if await may_see_details(request):
        found = Readiness(ready, database, migrations, sequencer, clock, appends, signing)
    return Response(found, status_code=200 if ready else 503)


@get(
    "/metrics",
    operation_id="metrics",
    opt=needs_no_key(
        operators=True,
        probe=True,
        problems=(401,),
        answers={
            200: {
                "text/plain": text(
                    "All metrics in the Prometheus text format",
                    "# HELP quire_unsigned_entries Entries that no checkpoint covers yet\n"
                    "# TYPE quire_unsigned_entries gauge\nquire_unsigned_entries 0.0\n",
                )
            }
        },
    ),
    tags=["Operations"],
)
async def prometheus(request: HttpRequest) -> ASGIApp:
    """Get the metrics in the Prometheus text format, with the metrics token or privately."""
    require_metrics_reader(request)
    services = services_of(request)
    metrics.WAITING_BYTES.set(services.sequencer.waiting_bytes)
    await services.part(database_gauges).get()
    body, content_type = metrics.exposition()
    # Litestar's response would add a second charset.
    return BytesResponse(200, body, (), content_type.encode())


@get("/openapi.json", include_in_schema=False, opt=needs_no_key())
async def openapi(request: HttpRequest) -> Response[bytes]:
    """Get the OpenAPI 3.1 description of this API."""
    return Response(request.app.state.description(), media_type=JSON)


@get("/docs", include_in_schema=False, opt=needs_no_key())
async def docs() -> Response[bytes]:
    """Get the description as a page; all its resources come from this server."""
    return Response(
        DOCS_PAGE,
        media_type=MediaType.HTML,
        headers={"Content-Security-Policy": DOCS_POLICY},
    )


@get("/verify", include_in_schema=False, opt=needs_no_key())
async def verify() -> Response[bytes]:
    """Get the page that verifies evidence bundles in the browser, which is also in each bundle."""
    return Response(VERIFY_PAGE, media_type=MediaType.HTML, headers=VERIFY_HEADERS)


@get("/static/{name:path}", include_in_schema=False, opt=needs_no_key())
async def static(name: Annotated[str, PathParameter()]) -> Response[bytes]:
    """Get a file of the page, from a fixed list, so that no path reaches other files."""
    asset = name.removeprefix("/")
    if asset not in ASSETS:
        raise NotFound("there is no such file")
    content, kind = ASSETS[asset]
    return Response(
        content,
        media_type=kind,
        headers={"Cache-Control": STATIC_AGE.decode()},
    )


router = Router("/", route_handlers=[livez, readyz, prometheus, openapi, docs, verify, static])
