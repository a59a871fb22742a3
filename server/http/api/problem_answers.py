"""The answers that are problems (RFC 9457), one for each status, with an example of each type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ledger.core.proving import NotYetSigned
from ledger.errors import NOT_FOUND, ProblemType
from server.http.api.schemas import ref
from server.http.contract import OF_EVERY_ANSWER
from server.http.problems import MEDIA_TYPE, RETRY_AFTER_S, TYPE_BASE, problem_of

RESPONSES: Final = "#/components/responses/{name}"
RETRY_AFTER: Final = {
    "description": "Seconds to wait before the request is sent again",
    "schema": {"type": "integer", "minimum": 1},
    "example": RETRY_AFTER_S,
}
AUTHENTICATE: Final = {
    "description": "How to send a key: as a bearer token",
    "required": True,
    "schema": {"type": "string"},
    "example": "Bearer",
}
ALLOW: Final = {
    "description": "The methods that the path takes",
    "required": True,
    "schema": {"type": "string"},
    "example": "GET, HEAD, OPTIONS",
}
NOT_YET: Final = problem_of(NotYetSigned)


def problem_ref(status: int) -> dict[str, Any]:
    """Return a reference to the answer of a status."""
    return {"$ref": RESPONSES.format(name=_name(status))}


def problem_answers(kinds: Mapping[str, ProblemType]) -> dict[str, Any]:
    """Return the answers of all statuses that problems have, by name."""
    statuses = sorted({kind.status for kind in kinds.values()})
    return {
        _name(status): _answer(status, [kind for kind in kinds.values() if kind.status == status])
        for status in statuses
    }


def problem_schemas(kinds: Mapping[str, ProblemType]) -> dict[str, Any]:
    """Return the schemas of a problem and of its type."""
    return {
        "ProblemType": {
            "type": "string",
            "format": "uri",
            "description": "What kind of problem it is. The value is stable; clients tell "
            "problems apart by it.",
            "enum": [TYPE_BASE + slug for slug in kinds],
            "examples": [TYPE_BASE + NOT_FOUND.slug],
        },
        "Problem": {
            "type": "object",
            "description": "A problem document (RFC 9457).",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": {**ref("ProblemType"), "description": "What kind of problem it is."},
                "title": _text("The problem in a few words, the same for each type.", "Not found"),
                "status": _number("The status of the answer.", 404),
                "detail": _text(
                    "What is wrong with this request and what to do, for people; the text may change.",
                    "this org has no such entry",
                ),
                "index": _number("The place of the event at fault in its batch, from 0.", 3),
                "field": _text("The name of the recognised field at fault.", "event_type"),
                "reason": _text(
                    "Why the org is frozen: the fault that was found in its trail.",
                    "entry 41 is missing",
                ),
            },
        },
    }


def _name(status: int) -> str:
    return f"Problem{status}"


def _answer(status: int, kinds: list[ProblemType]) -> dict[str, Any]:
    headers = {header.name: header.described() for header in OF_EVERY_ANSWER}
    if status in (429, 503) or NOT_YET in kinds:
        headers["Retry-After"] = {**RETRY_AFTER, "required": status != NOT_YET.status}
    if status == 405:
        headers["Allow"] = ALLOW
    if status == 401:
        headers["WWW-Authenticate"] = AUTHENTICATE
    examples = {kind.slug: {"summary": kind.title, "value": _example(kind)} for kind in kinds}
    return {
        "description": " or ".join(kind.title for kind in kinds),
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": ref("Problem"), "examples": examples}},
    }


def _example(kind: ProblemType) -> dict[str, Any]:
    return {
        "type": TYPE_BASE + kind.slug,
        "title": kind.title,
        "status": kind.status,
        "detail": kind.example,
    }


def _text(description: str, example: str) -> dict[str, Any]:
    return {"type": "string", "description": description, "examples": [example]}


def _number(description: str, example: int) -> dict[str, Any]:
    return {"type": "integer", "description": description, "examples": [example]}
