"""The description of an append, whose route reads the body itself, in three formats."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ledger.event import FIELD_NAMES, MAX_FIELD_CHARS, EventFields
from server.http.api.docstrings import field_texts
from server.http.contract import octets, text
from server.trails.appending import JSON, MSGPACK, NDJSON

MAX_KEY_CHARS: Final = 255
FIELD_EXAMPLES: Final = {
    "event_type": "invoice.approved",
    "actor": "ada@example.com",
    "action": "approve",
    "outcome": "success",
    "subject": "bob@example.com",
    "timestamp": "2026-01-31",
    "data_classification": "confidential",
    "legal_basis": "contract",
    "unique_key": "invoice-1042-approved",
}
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
            NDJSON: {
                "schema": text("One event as JSON on each line; blank lines are skipped", lines),
                "example": lines,
            },
            MSGPACK: {"schema": octets("An array of events, each of them a MessagePack map")},
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
                    "examples": ["0198f3a2-invoice-1042"],
                },
            },
            {
                "name": "Prefer",
                "in": "header",
                "required": False,
                "description": "return=minimal answers a batch with its bounds only.",
                "schema": {
                    "type": "string",
                    "enum": ["return=minimal", "return=representation"],
                    "examples": ["return=minimal"],
                },
            },
            {
                "name": "wait",
                "in": "query",
                "required": False,
                "description": "checkpoint: answer once a checkpoint includes the entries, with "
                "their proofs.",
                "schema": {"type": "string", "enum": ["checkpoint"], "examples": ["checkpoint"]},
            },
        ]
    )


def event_schemas() -> dict[str, Any]:
    """Return the schema of an event: any object, with the names that are recognised."""
    texts = field_texts(EventFields)
    fields = {
        name: {
            "type": ["string", "null"],
            "maxLength": MAX_FIELD_CHARS,
            "description": texts[name],
            "examples": [FIELD_EXAMPLES[name]],
        }
        for name in FIELD_NAMES
    }
    event = {
        "type": "object",
        "description": "Any JSON object. These names are recognised; the rest is payload only.",
        "properties": fields,
        "additionalProperties": True,
        "examples": [EVENT],
    }
    return {"Event": event}
