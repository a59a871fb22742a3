"""Orgs and their API keys."""

from typing import Final

from server.access.limits.settings import LimitSettings
from server.access.settings import AccessSettings
from server.feature import Command, DataFile, EntryKind, Feature

_CHANGES: Final = "server.trails.own.changes:"

FEATURE: Final = Feature(
    name="access",
    routes=(
        "server.http.routes.access.tenants:router",
        "server.http.routes.access.limits:router",
        "server.http.routes.access.keys:router",
    ),
    settings=(AccessSettings, LimitSettings),
    tags={"Orgs and keys": "Tenants and their API keys."},
    administrative=True,
    commands={
        "orgs": Command("server.cli.trails.orgs_group:orgs", "Create and manage orgs."),
        "keys": Command("server.cli.keys.group:keys", "API keys of an org, and the signing keys."),
    },
    entry_kinds=(
        EntryKind(
            "quire.org_created",
            "In the trail `system`: an org was created, and its row.",
            f"{_CHANGES}OrgCreated",
        ),
        EntryKind(
            "quire.org_changed",
            "In the trail `system`: an org was renamed, or its log published.",
            f"{_CHANGES}OrgChanged",
        ),
        EntryKind(
            "quire.org_restored",
            "In the trail `system`: an org came back from its archive.",
            f"{_CHANGES}OrgRestored",
        ),
        EntryKind(
            "quire.limits_changed",
            "In the trail `system`: the rate limits of an org were set.",
            f"{_CHANGES}LimitsChanged",
        ),
        EntryKind(
            "quire.key_created",
            "In the trail `system`: an API key was created.",
            f"{_CHANGES}KeyChange",
        ),
        EntryKind(
            "quire.key_changed",
            "In the trail `system`: the name of an API key was changed, or its addresses.",
            f"{_CHANGES}KeyChange",
        ),
        EntryKind(
            "quire.key_rotated",
            "In the trail `system`: an API key was replaced by a new one.",
            f"{_CHANGES}KeyChange",
        ),
        EntryKind(
            "quire.key_revoked",
            "In the trail `system`: an API key was revoked.",
            f"{_CHANGES}KeyChange",
        ),
        EntryKind(
            "quire.org_frozen",
            "In the trail `system`: an org was frozen, and why.",
            f"{_CHANGES}OrgWasFrozen",
        ),
    ),
    data_files=(
        DataFile("platform.key", "The API key that administers orgs."),
        DataFile("demo-admin.key", "The API key of the org `demo`, which the first start creates."),
    ),
)
