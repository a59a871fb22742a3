"""The reference of the entries that the server itself writes: fields, batching, JSON schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from server.feature import EntryKind, load
from server.http.api.docstrings import field_texts


def own_entries(kinds: Sequence[EntryKind]) -> str:
    """Return a table of the kinds, and a section for each that states its payload."""
    rows = [f"| [`{kind.event_type}`](#{_anchor(kind)}) | {kind.batching} |" for kind in kinds]
    parts = [_section(kind) for kind in kinds]
    return "\n".join(["| event type | written |", "|---|---|", *rows, "", *parts])


def _anchor(kind: EntryKind) -> str:
    return kind.event_type.replace(".", "")


def _section(kind: EntryKind) -> str:
    lines = [f"### `{kind.event_type}`", kind.says]
    if kind.payload:
        lines += ["", *_fields(load(kind.payload)), "", *_schema(load(kind.payload))]
    return "\n".join([*lines, ""])


def _fields(payload: type) -> list[str]:
    texts = field_texts(payload)
    rows = [
        f"| `{name}` | {texts[name]} |"
        for name in payload.__struct_fields__  # type: ignore[attr-defined]
        if name in texts
    ]
    return ["| field | meaning |", "|---|---|", *rows]


def _schema(payload: type) -> list[str]:
    text = msgspec.json.encode(_plain(msgspec.json.schema(payload))).decode()
    return ["<details><summary>JSON schema</summary>", "", "```json", text, "```", "</details>"]


def _plain(schema: Any) -> Any:
    """Return a schema without examples and default values, which are for other readers."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = {"examples", "default"}
    return {name: _plain(value) for name, value in schema.items() if name not in left_out}
