"""Routes for operators and monitoring: liveness, readiness, metrics, the API description."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from litestar import MediaType, Response, Router, get
from litestar.params import PathParameter
from litestar.types import ASGIApp

from ledger.errors import StorageError
from ledger.evidence import page
from ledger.storage import archive_cost, indexing, trees
from server import metrics
from server.access.directory import NotFound
from server.http.caller import HttpRequest, services_of
from server.http.contract import needs_no_key, text
from server.http.protocol.bytes_response import BytesResponse
from server.trails.appending import JSON
from server.trails.readiness import database_state
from server.trails.services import Services

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
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Readiness(msgspec.Struct):
    """Whether this process can serve: "ok", or why not, for each part."""

    ready: bool
    """Whether every part is "ok"."""
    database: Annotated[str, msgspec.Meta(examples=["ok"])]
    """"ok", or "unreachable"."""
    migrations: Annotated[str, msgspec.Meta(examples=["ok"])]
    """"ok", "unreachable", or how the schema of the database differs from this version's."""
    sequencer: Annotated[str, msgspec.Meta(examples=["ok"])]
    """"ok", or "not running"."""
    clock: Annotated[str, msgspec.Meta(examples=["ok"])]
    """"ok", or that the clock leapt and appends wait."""
    appends: Annotated[str, msgspec.Meta(examples=["ok"])]
    """"ok", "not tried", or why a write failed."""
    signing: Annotated[str, msgspec.Meta(examples=["ok"])]
    """"ok", or that nothing at all is signed."""


class Liveness(msgspec.Struct):
    """The process answers."""

    status: Literal["ok"] = "ok"
    """Always "ok"."""


NOT_READY: Final = {
    "ready": False,
    "database": "unreachable",
    "migrations": "unreachable",
    "sequencer": "ok",
    "clock": "ok",
    "appends": "not tried",
    "signing": "ok",
}


@get("/livez", operation_id="live", opt=needs_no_key(), tags=["Operations"])
async def livez() -> Liveness:
    """Report that the process runs and its event loop turns."""
    return Liveness()


@get(
    "/readyz",
    operation_id="ready",
    opt=needs_no_key(
        answers={
            200: {JSON: Readiness},
            503: {JSON: Readiness},
        },
        examples={503: NOT_READY},
        meanings={
            200: "This process can serve",
            503: "This process can't serve; the body says why",
        },
    ),
    tags=["Operations"],
)
async def readyz(request: HttpRequest) -> Response[Readiness]:
    """Report whether database, schema, sequencer, clock and signer work, and a write succeeds."""
    services = services_of(request)
    database, migrations, appends = await database_state(services)
    sequencer = "ok" if services.sequencer.healthy else "not running"
    clock = "ok" if services.clock.wall.leap is None else "it leapt: appends wait"
    signing = "nothing is signed" if services.lateness.stands_still else "ok"
    ready = {database, migrations, sequencer, clock, appends, signing} == {"ok"}
    return Response(
        Readiness(ready, database, migrations, sequencer, clock, appends, signing),
        status_code=200 if ready else 503,
    )


async def _measure_archive(services: Services) -> None:
    """Update the metrics of the archive. Raises StorageError."""
    target = services.settings.archive_target
    if target is None:
        return
    cost = await archive_cost.cost(services.database, target)
    metrics.ARCHIVER_CPU.set(cost.cpu_seconds)
    metrics.ARCHIVED_OBJECTS.set(cost.objects)
    metrics.ARCHIVED_BYTES.set(cost.bytes)
    lag = await archive_cost.lag(services.database, target)
    metrics.ARCHIVE_BEHIND.set(lag.entries)
    metrics.ARCHIVE_AGE.set(lag.seconds)


@get(
    "/metrics",
    operation_id="metrics",
    opt=needs_no_key(
        answers={
            200: {
                "text/plain": text(
                    "All metrics in the Prometheus text format",
                    "# HELP quire_unsigned_entries Entries that no checkpoint covers yet\n"
                    "# TYPE quire_unsigned_entries gauge\nquire_unsigned_entries 0.0\n",
                )
            }
        }
    ),
    tags=["Operations"],
)
async def prometheus(request: HttpRequest) -> ASGIApp:
    """Get the metrics in the Prometheus text format."""
    services = services_of(request)
    metrics.WAITING_BYTES.set(services.sequencer.waiting_bytes)
    with contextlib.suppress(StorageError):  # this process's own counts are reported all the same
        signing = await trees.signing_state(services.database)
        metrics.UNSIGNED.set(signing.unsigned)
        metrics.STOPPED.set(signing.stopped)
        metrics.SIGNED_AT.set(signing.anchored_s)
        metrics.UNINDEXED.set(await indexing.unindexed(services.database))
        await _measure_archive(services)
    body, content_type = metrics.exposition()
    # Litestar's response would add a second charset.
    return BytesResponse(200, body, (), content_type.encode())


@get("/openapi.json", include_in_schema=False, opt=needs_no_key())
async def openapi(request: HttpRequest) -> Response[bytes]:
    """Get the OpenAPI 3.1 description of this API."""
    return Response(request.app.state.description(), media_type=JSON)


def _moved(to: str) -> Response[bytes]:
    """Return a redirect to a relative address, which also works under a proxy's prefix."""
    headers = {"Location": to, "Cache-Control": "no-store"}
    return Response(b"", status_code=302, media_type=MediaType.TEXT, headers=headers)


@get("/docs", include_in_schema=False, opt=needs_no_key())
async def docs(request: HttpRequest) -> Response[bytes]:
    """Get the description as a page; all its resources come from this server."""
    if request.scope["raw_path"].endswith(b"/"):
        return _moved("../docs")  # the page's links are relative to an address without a slash
    return Response(
        DOCS_PAGE,
        media_type=MediaType.HTML,
        headers={"Content-Security-Policy": DOCS_POLICY, "X-Content-Type-Options": "nosniff"},
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
        headers={"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"},
    )


router = Router("/", route_handlers=[livez, readyz, prometheus, openapi, docs, verify, static])
