"""Orgs and their API keys."""

from typing import Final

from server.feature import Command, DataFile, Feature

FEATURE: Final = Feature(
    name="access",
    routes=("server.http.routes.tenants:router",),
    tags={"Orgs and keys": "Tenants and their API keys."},
    administrative=True,
    commands={
        "orgs": Command("server.cli.trails.orgs_group:orgs", "Create and manage orgs."),
        "keys": Command("server.cli.keys.group:keys", "API keys of an org, and the signing keys."),
    },
    data_files=(
        DataFile("platform.key", "The API key that administers orgs."),
        DataFile("demo-admin.key", "The API key of the org `demo`, which the first start creates."),
    ),
)
