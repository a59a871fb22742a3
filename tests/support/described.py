"""The application's OpenAPI description, and a check that nothing in it is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import jsonschema_rs

from server.app.application import description

DOCUMENT: dict[str, Any] = json.loads(description())
OPERATIONS = {
    (method.upper(), path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")
_TEXTS: Final = frozenset({"title", "description", "examples", "example", "default"})
"""Keywords that leave the shape of a value as it is."""
_STOCK: Final = {text for one in HTTPStatus for text in (one.phrase, one.description)}
_DOCSTRING: Final = "put a docstring under the field"
_EXAMPLE: Final = "annotate the field with Meta(examples=[…]), or with a shape of ledger.shapes"


def answer_of(operation: Mapping[str, Any], status: int | str) -> dict[str, Any]:
    """Return the answer of a status, also one in the components."""
    answer: dict[str, Any] = operation["responses"][str(status)]
    if "$ref" in answer:
        answer = DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    return answer


def flaws(document: dict[str, Any]) -> list[str]:
    """Return the texts and examples that a description lacks or repeats, and what to write where."""
    reader = _Reader(document)
    found = [
        flaw
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for flaw in reader.of_route(f"{method.upper()} {path}", operation)
    ]
    return found + reader.copies()


class _Reader:
    """Reads a document route by route; a named schema is read with the first route that uses it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._read: set[str] = set()
        self._shapes: dict[str, list[str]] = {}

    def of_route(self, route: str, operation: Mapping[str, Any]) -> Iterator[str]:
        for parameter in operation.get("parameters", []):
            where = f"{route}: parameter {parameter['name']}"
            yield from self._value(
                where, parameter, "state it in its PathParameter or QueryParameter"
            )
        for name, body in operation.get("requestBody", {}).get("content", {}).items():
            yield from self._content(f"{route}: request body {name}", body)
        for status, answer in operation["responses"].items():
            yield from self._answer(f"{route}: answer {status}", self._resolved(answer))

    def _answer(self, where: str, answer: Mapping[str, Any]) -> Iterator[str]:
        if not answer["description"] or answer["description"] in _STOCK:
            yield f"{where} does not say what it means: give the contract of the route `meanings`"
        for name, header in answer.get("headers", {}).items():
            yield from self._value(
                f"{where}: header {name}", header, "state it in its ResponseHeader"
            )
        for name, content in answer.get("content", {}).items():
            yield from self._content(f"{where} {name}", content)

    def _content(self, where: str, content: Mapping[str, Any]) -> Iterator[str]:
        schema = content["schema"]
        yield from self._schema(where, schema)
        examples = [one["value"] for one in content.get("examples", {}).values()]
        examples += [content["example"]] if "example" in content else []
        if not examples and schema.get("format") != "binary":
            yield f"{where} has no example: {_EXAMPLE}, or give the contract an `example`"
        for example in examples:
            yield from self._fit(where, schema, example)

    def _schema(self, where: str, schema: Mapping[str, Any]) -> Iterator[str]:
        """Yield the flaws of a schema and of its parts."""
        route = where.partition(": ")[0]
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if name in self._read:
                return
            self._read.add(name)
            where, schema = f"{route}: {name}", self._resolved(schema)
            if not schema.get("description"):
                yield f"{where} has no description: give the type a docstring"
        for name, shown in schema.get("properties", {}).items():
            yield from self._value(f"{where}.{name}", shown)
            yield from self._schema(f"{where}.{name}", shown)
        for part in (*schema.get("anyOf", ()), *filter(None, [schema.get("items")])):
            yield from self._schema(where, part)
        if "." in where.partition(": ")[2]:
            self._note(where, schema)

    def _value(self, where: str, shown: Mapping[str, Any], place: str = "") -> Iterator[str]:
        """Yield the flaws of a parameter, a header or a field: its description and examples."""
        schema = shown.get("schema", shown)
        named = self._resolved(schema)
        examples = [shown["example"]] if "example" in shown else schema.get("examples", ())
        if not shown.get("description"):
            yield f"{where} has no description: {place or _DOCSTRING}"
        if not examples and ("examples" not in named and "properties" not in named):
            yield f"{where} has no example: {place or _EXAMPLE}"
        for example in examples:
            yield from self._fit(where, schema, example)
            formats = [self._resolved(one).get("format") for one in schema.get("anyOf", [named])]
            if isinstance(example, str) and _TIME.match(example) and "date-time" not in formats:
                yield f"{where} is a time without a format: give it the type TimeText"

    def _fit(self, where: str, schema: Mapping[str, Any], example: Any) -> Iterator[str]:
        whole = {**schema, "components": self._document["components"]}
        for error in jsonschema_rs.iter_errors(whole, example, validate_formats=True):
            yield f"{where} has an example that does not fit: {error.message}"

    def _note(self, where: str, schema: Mapping[str, Any]) -> None:
        choices = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
        if len(choices) > 1 or {"enum", "properties", "pattern", "format"} & schema.keys():
            self._shapes.setdefault(_shape(schema), []).append(where)

    def copies(self) -> list[str]:
        """Return the schemas that are in the document twice, named or not."""
        for name, schema in self._document["components"]["schemas"].items():
            self._note(name, schema)
        return [
            f"{' and '.join(sorted(places))} have one shape: give them one type, with a title "
            "where it is no struct (ledger.shapes.shape)"
            for places in self._shapes.values()
            if len(places) > 1
        ]

    def _resolved(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in part:
            return part
        _, _, kind, name = part["$ref"].split("/")
        found: Mapping[str, Any] = self._document["components"][kind][name]
        return found


def _shape(schema: Any) -> str:
    """A schema without what it says for readers, as text."""
    return json.dumps(_bare(schema), sort_keys=True)


def _bare(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    bare = {name: value for name, value in schema.items() if name not in _TEXTS}
    if "properties" in schema:
        bare["properties"] = {name: _bare(one) for name, one in schema["properties"].items()}
    return {name: value if name == "properties" else _bare(value) for name, value in bare.items()}
