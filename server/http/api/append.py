"""The description of an append, whose route reads the body itself, in three formats."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ledger.event import FIELD_NAMES, MAX_FIELD_CHARS
from server.trails.appending import JSON, MSGPACK, NDJSON

MAX_KEY_CHARS: Final = 255
EVENT: Final = {
    "event_type": "invoice.approved",
    "actor": "ada@example.com",
    "action": "approve",
    "outcome": "success",
    "amount": "120.00",
}
BATCH: Final = [EVENT, {"event_type": "user.login", "actor": "bob", "subject": "bob"}]


def describe_append(operation: dict[str, Any]) -> None:
    """Add the body, headers and query of an append to the operation."""
    event = {"$ref": "#/components/schemas/Event"}
    batch = {"type": "array", "items": event, "minItems": 1, "maxItems": 10_000}
    lines = "\n".join(msgspec.json.encode(item).decode() for item in BATCH)
    operation["requestBody"] = {
        "required": True,
        "content": {
            JSON: {
                "schema": {"anyOf": [event, batch]},
                "examples": {"one": {"value": EVENT}, "batch": {"value": BATCH}},
            },
            NDJSON: {"schema": {"type": "string"}, "example": lines},
            MSGPACK: {"schema": {"type": "string", "format": "binary"}},
        },
    }
    operation.setdefault("parameters", []).extend(
        [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The same key with the same body is answered as the first time, "
                "with another body by 422.",
                "schema": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_KEY_CHARS,
                    "pattern": "^[ -~]+$",
                },
            },
            {
                "name": "Prefer",
                "in": "header",
                "required": False,
                "description": "return=minimal answers a batch with its bounds only.",
                "schema": {"type": "string", "enum": ["return=minimal", "return=representation"]},
            },
            {
                "name": "wait",
                "in": "query",
                "required": False,
                "description": "checkpoint: answer once a checkpoint includes the entries, with "
                "their proofs.",
                "schema": {"type": "string", "enum": ["checkpoint"]},
            },
        ]
    )


def event_schema() -> dict[str, Any]:
    """Return the schema of an event: any object, with the names that are recognised."""
    text = {"type": ["string", "null"], "maxLength": MAX_FIELD_CHARS}
    return {
        "type": "object",
        "description": "Any JSON object. These names are recognised; the rest is payload only.",
        "properties": dict.fromkeys(FIELD_NAMES, text),
        "additionalProperties": True,
    }
