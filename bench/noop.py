"""The baseline of requests: a bare Litestar app without any work.

It decodes the body of an append and answers 201; it answers a GET of a proof or a
tile with 200 and no body.

Started as ``python -m bench.noop PORT``, by uvicorn with the server's options
(event loop, HTTP parser, no access log, no extra headers), one worker.
"""

from __future__ import annotations

import sys

import uvicorn
from litestar import Litestar, get, post

from bench.events import Event


@post("/v1/orgs/{org:str}/entries")
async def noop(org: str, data: Event) -> None:
    """Decode an event and ignore it."""


@get("/v1/orgs/{org:str}/entries/{record:str}/proof")
async def no_proof(org: str, record: str) -> None:
    """Answer without a proof."""


@get("/v1/orgs/{org:str}/log/tile/{tile:path}")
async def no_tile(org: str, tile: str) -> None:
    """Answer without a tile."""


def main() -> None:
    """Serve until a signal."""
    app = Litestar([noop, no_proof, no_tile], openapi_config=None, logging_config=None)
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )


if __name__ == "__main__":
    main()
