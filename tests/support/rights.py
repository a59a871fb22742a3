"""The roles that each route lets in, and the answers that they get."""

from __future__ import annotations

from typing import Any, NamedTuple

ANY_ROLE = ("viewer", "auditor", "member", "admin", "platform")


def allowed(status: int, *roles: str) -> dict[str, int]:
    return {role: status if role in roles else 403 for role in ANY_ROLE}


def reads(status: int = 200) -> dict[str, int]:
    return allowed(status, *ANY_ROLE)


def writes(status: int = 201) -> dict[str, int]:
    return allowed(status, "member", "admin", "platform")


def administers(status: int = 200) -> dict[str, int]:
    return allowed(status, "admin", "platform")


def lists_keys() -> dict[str, int]:
    return allowed(200, "auditor", "member", "admin", "platform")


def sees_events() -> dict[str, int]:
    return allowed(200, "auditor", "admin", "platform")


class Route(NamedTuple):
    """A route, the status it answers each role with, and the body and query to send."""

    expected: dict[str, int]
    body: Any = None
    query: str = ""


OTHERS_FORBIDDEN = {"/admin/security/threats/{org}"}
"""Routes that answer the key of an org with 403, not 404, for the path of any other org."""

# A 404 or 409 means: the caller was let in, and the requested resource does not exist.
ROUTES = {
    ("GET", "/v1/whoami"): Route(reads()),
    ("GET", "/v1/orgs"): Route(allowed(200, "platform")),
    ("POST", "/v1/orgs"): Route(allowed(400, "platform"), {"slug": "Not A Slug"}),
    ("GET", "/v1/orgs/{org}"): Route(reads()),
    ("PATCH", "/v1/orgs/{org}"): Route(administers(), {"name": "New name"}),
    ("POST", "/v1/orgs/{org}/thaw"): Route(administers(409), {"reason": "none"}),
    ("POST", "/v1/orgs/{org}/keys"): Route(administers(201), {"name": "k", "role": "viewer"}),
    ("GET", "/v1/orgs/{org}/keys"): Route(lists_keys()),
    ("PATCH", "/v1/orgs/{org}/keys/{key_id}"): Route(administers(404), {"name": "k"}),
    ("POST", "/v1/orgs/{org}/keys/{key_id}/rotate"): Route(reads(404)),
    ("POST", "/admin/keys/rotate"): Route(reads(400)),
    ("DELETE", "/v1/orgs/{org}/keys/{key_id}"): Route(administers(404)),
    ("GET", "/v1/orgs/{org}/security-events"): Route(sees_events()),
    ("POST", "/v1/orgs/{org}/security-events/{event_id}/acknowledge"): Route(
        administers(404), {"reason": "none"}
    ),
    ("GET", "/v1/orgs/{org}/threats"): Route(sees_events()),
    ("GET", "/admin/security/threats/{org}"): Route(sees_events()),
    ("POST", "/v1/orgs/{org}/reviews"): Route(
        administers(201), {"period_start": "2026-01-01", "period_end": "2026-01-01"}
    ),
    ("POST", "/v1/orgs/{org}/entries"): Route(writes(), {"event_type": "by role"}),
    ("GET", "/v1/orgs/{org}/entries"): Route(reads()),
    ("GET", "/v1/orgs/{org}/entries/{record}"): Route(reads()),
    ("GET", "/v1/orgs/{org}/entries/{record}/payload"): Route(writes(200)),
    ("GET", "/v1/orgs/{org}/head"): Route(reads()),
    ("GET", "/v1/orgs/{org}/entries/{record}/proof"): Route(reads(409)),
    ("GET", "/v1/orgs/{org}/consistency"): Route(reads()),
    ("GET", "/v1/orgs/{org}/checkpoints"): Route(reads()),
    ("GET", "/v1/orgs/{org}/checkpoints/{size}"): Route(reads(404)),
    ("GET", "/v1/orgs/{org}/log/checkpoint"): Route(reads(404)),
    ("GET", "/v1/orgs/{org}/log/tile/{tile}"): Route(reads(404)),
    ("POST", "/v1/orgs/{org}/log/add"): Route(writes(404)),
    ("POST", "/v1/orgs/{org}/bundles"): Route(reads(404), {"from_seq": 2**39}),
    ("GET", "/v1/orgs/{org}/archive"): Route(reads(409)),
    ("POST", "/v1/orgs/{org}/archive"): Route(administers(409)),
    ("POST", "/v1/orgs/{org}/erasures"): Route(administers(404), {"subject": "nobody"}),
    ("DELETE", "/v1/orgs/{org}/subjects/{subject}"): Route(administers(404)),
    ("POST", "/v1/orgs/{org}/verifications"): Route(reads(), {}, "?wait=30"),
    ("GET", "/v1/orgs/{org}/verifications/{job_id}"): Route(reads()),
    ("GET", "/v1/orgs/{org}/verifications/{job_id}/events"): Route(reads()),
    ("GET", "/admin/compliance/verify/{record}"): Route(reads()),
    ("GET", "/audit/logs/{record}"): Route({**reads(404), "platform": 400}),
}
