"""The routes an application has, as (method, path) with `{name}` for parameters."""

from __future__ import annotations

import re
from pathlib import Path

from litestar import Litestar
from litestar.routes import HTTPRoute

from server.process.worker import application
from tests.support.serving import server_settings


def an_application() -> Litestar:
    """The application, not started: it has its routes but opens nothing."""
    return application(server_settings(Path("unused")), "postgresql://unused/unused")


def routes(app: Litestar) -> set[tuple[str, str]]:
    """Every route but the answers to OPTIONS that come with each path."""
    return {
        (method, re.sub(r":\w+}", "}", route.path_format))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS"
    }
