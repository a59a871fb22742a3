"""The OpenAPI 3.1 document: Litestar's, completed with what it can't see.

The append route reads raw bodies, some routes answer prepared bytes, and every
route answers problems and takes an API key.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Litestar

from ledger.event import FIELD_NAMES, MAX_FIELD_CHARS
from server.http.problems import KINDS, MEDIA_TYPE

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics"})
APPEND: Final = ("/v1/orgs/{org}/entries", "post")
MAX_KEY_CHARS: Final = 255


def describe(app: object) -> bytes:
    """The document as JSON."""
    assert isinstance(app, Litestar)
    document = app.openapi_schema.to_schema()
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = _problem_schema()
    schemas["Event"] = _event_schema()
    schemas |= _answer_schemas()
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(path, operation)
            if (path, method) == APPEND:
                _describe_append(operation)
    return msgspec.json.encode(document)


def _complete(path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("400", None)
    if path not in OPEN_PATHS:
        operation["security"] = [{"bearer": []}, {"apiKey": []}]
        responses["default"] = {
            "description": "A problem (RFC 9457)",
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }


def _describe_append(operation: dict[str, Any]) -> None:
    event = {"$ref": "#/components/schemas/Event"}
    batch = {"type": "array", "items": event, "minItems": 1, "maxItems": 10_000}
    operation["requestBody"] = {
        "required": True,
        "content": {
            "application/json": {"schema": {"anyOf": [event, batch]}},
            "application/x-ndjson": {"schema": {"type": "string"}},
            "application/msgpack": {"schema": {"type": "string", "format": "binary"}},
        },
    }
    operation.setdefault("parameters", []).extend(
        [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "Retrying with the same key and body answers the first answer again.",
                "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS},
            },
            {
                "name": "Prefer",
                "in": "header",
                "required": False,
                "description": "return=minimal answers a batch with its bounds only.",
                "schema": {"type": "string", "enum": ["return=minimal", "return=representation"]},
            },
        ]
    )
    answers = ["Receipt", "BatchReceipt", "BatchSummary"]
    operation["responses"]["201"] = {
        "description": "Durable",
        "content": {
            "application/json": {
                "schema": {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in answers]}
            }
        },
    }


def _problem_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "format": "uri", "description": ", ".join(sorted(KINDS))},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "index": {"type": "integer", "description": "0-based index of the event at fault"},
            "field": {"type": "string", "description": "field of the event at fault"},
            "reason": {"type": "string", "description": "why the org is frozen"},
        },
    }


def _event_schema() -> dict[str, Any]:
    text = {"type": ["string", "null"], "maxLength": MAX_FIELD_CHARS}
    return {
        "type": "object",
        "description": "Any JSON object. These names are recognised; the rest is payload only.",
        "properties": dict.fromkeys(FIELD_NAMES, text),
        "additionalProperties": True,
    }


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _answer_schemas() -> dict[str, Any]:
    text, whole = {"type": "string"}, {"type": "integer"}
    head = _object(seq=whole, entry_hash=text, anchored_at=text)
    receipt = _object(
        record_id={"type": "string", "pattern": "^rec_[0-9a-f]{32}$"},
        seq=whole,
        entry_hash=text,
        previous_hash={"type": ["string", "null"]},
        anchored_at={"type": "string", "format": "date-time"},
    )
    receipts = {"type": "array", "items": {"$ref": "#/components/schemas/Receipt"}}
    return {
        "Receipt": receipt,
        "BatchReceipt": _object(entries=receipts, head=head),
        "BatchSummary": _object(first_seq=whole, last_seq=whole, count=whole, head=head),
    }
