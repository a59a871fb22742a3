"""The baseline of `append_single`: a bare Litestar app that decodes the same body and answers 201.

Started as ``python -m bench.noop PORT``, by uvicorn with the server's options
(event loop, HTTP parser, no access log, no extra headers), one worker.
"""

from __future__ import annotations

import sys

import uvicorn
from litestar import Litestar, post

from bench.events import Event


@post("/v1/orgs/{org:str}/entries")
async def noop(org: str, data: Event) -> None:
    """Take an event and do nothing with it."""


def main() -> None:
    """Serve until a signal."""
    app = Litestar([noop], openapi_config=None, logging_config=None)
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
