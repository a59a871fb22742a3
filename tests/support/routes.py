"""The routes of an application, as (method, path) with `{name}` for parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from litestar import Litestar
from litestar.routes import HTTPRoute

from server.app.features import FEATURES
from server.feature import Feature
from server.process.worker import application
from tests.support.serving import server_settings


def an_application(features: Sequence[Feature] = FEATURES) -> Litestar:
    """Return the application, not started: it has its routes and opens no resource."""
    return _built_in() if features is FEATURES else _built(features)


@cache
def _built_in() -> Litestar:
    """Build the server's own application once: several modules make their cases of its routes."""
    return _built(FEATURES)


def _built(features: Sequence[Feature]) -> Litestar:
    settings = server_settings(Path("unused"), features)
    return application(settings, "postgresql://unused/unused", features)


def routes(app: Litestar) -> set[tuple[str, str]]:
    """Every route, without the automatic OPTIONS of each path."""
    return {
        (method, re.sub(r":\w+}", "}", route.path_format))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS"
    }
