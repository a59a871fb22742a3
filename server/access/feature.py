"""Orgs and their API keys."""

from typing import Final

from server.feature import Command, Feature

FEATURE: Final = Feature(
    name="access",
    routes=("server.http.routes.tenants:router",),
    tags={"Orgs and keys": "Tenants and their API keys."},
    administrative=True,
    commands={
        "orgs": Command("server.cli.trails.orgs:orgs", "Create and manage orgs."),
        "keys": Command("server.cli.keys.group:keys", "API keys of an org, and the signing keys."),
    },
)
