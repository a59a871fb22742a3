"""Makes the schemas of the types that routes read and answer, each shape once.

Descriptions are the docstrings of the types and of their fields. Examples are in the annotations
of the fields (``Meta(examples=[…])``) or in their shapes (:mod:`ledger.shapes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from types import UnionType
from typing import Any, Final, cast, get_args

import msgspec
from msgspec import UNSET, inspect, structs

from server.http.api.docstrings import field_texts, type_text

REFS: Final = "#/components/schemas/{name}"
NULL: Final = {"type": "null"}
_VALUES: Final = frozenset({"examples", "example", "default", "enum", "const"})
"""Keywords whose values are not schemas."""


def ref(name: str) -> dict[str, Any]:
    """Return a reference to a named schema."""
    return {"$ref": REFS.format(name=name)}


class ApiSchemas:
    """The named schemas of an API, and the schema of each type that refers to them."""

    def __init__(
        self, bodies: Iterable[Any], answers: Iterable[Any], named: Mapping[str, Any]
    ) -> None:
        bodies, answers = _types(bodies), _types(answers)
        _, raw = msgspec.json.schema_components([*bodies, *answers], ref_template=REFS)
        self.named: dict[str, Any] = {}
        for name, schema in raw.items():
            self.named[name] = self._hoisted(schema, named=True)
        read = set(_classes(bodies))
        for cls in {*_classes(answers), *read}:
            self._describe(cls, whole=cls not in read)
        self.named |= named
        for schema in self.named.values():
            self._exemplify(schema)

    def of(self, kind: Any) -> dict[str, Any]:
        """Return the schema of a type; a schema that a contract has in place of a type stays as it is."""
        if isinstance(kind, Mapping):
            return dict(kind)
        if isinstance(kind, UnionType):  # msgspec takes none of structs without a tag
            return {"anyOf": [self.of(choice) for choice in get_args(kind)]}
        (schema,), _ = msgspec.json.schema_components([kind], ref_template=REFS)
        hoisted: dict[str, Any] = self._hoisted(schema)
        return hoisted

    def example(self, schema: Mapping[str, Any]) -> Any:
        """Return an example, made of the examples of the parts; UNSET if one of them has none."""
        found: Any = UNSET
        match schema:
            case {"examples": [first, *_]} | {"const": first} | {"enum": [first, *_]}:
                found = first
            case {"$ref": target}:
                found = self.example(self.named[target.rpartition("/")[2]])
            case {"anyOf": choices}:
                found = self.example(next(one for one in choices if one != NULL))
            case {"type": "boolean"}:
                found = schema.get("default", True)
            case {"type": "array", "items": items}:
                one = self.example(items)
                found = one if one is UNSET else [one]
            case {"type": "object", "properties": properties}:
                parts = {name: self.example(properties[name]) for name in schema["required"]}
                found = UNSET if UNSET in parts.values() else parts
        return found

    def _hoisted(self, schema: Any, *, named: bool = False) -> Any:
        """Return the schema with a reference in place of each shape that has a title.

        Raises ValueError where two shapes have one title.
        """
        if isinstance(schema, (list, tuple)):
            return [self._hoisted(one) for one in schema]
        if not isinstance(schema, dict):
            return schema
        schema = {name: self._part(name, value) for name, value in _plain(schema).items()}
        title = schema.get("title")
        if named or not isinstance(title, str):
            return schema
        default = {"default": schema.pop("default")} if "default" in schema else {}
        known = self.named.setdefault(title, schema)
        if {**known, "examples": schema.get("examples")} != schema:
            raise ValueError(f"two shapes have the title {title}: give one of them another")
        own = {} if known == schema else {"examples": schema["examples"]}
        return {**ref(title), **default, **own}

    def _part(self, keyword: str, value: Any) -> Any:
        if keyword == "properties":
            return {name: self._hoisted(one) for name, one in value.items()}
        return value if keyword in _VALUES else self._hoisted(value)

    def _describe(self, cls: type, *, whole: bool) -> None:
        """Add the docstrings. In a ``whole`` schema, of an answer, no field has a default."""
        schema = self.named[cls.__name__]
        schema["description"] = type_text(cls)
        if issubclass(cls, Enum):
            schema["examples"] = [one.value for one in cls][:1]
            return
        texts, fields = field_texts(cls), structs.fields(cast("type[msgspec.Struct]", cls))
        for field in fields:
            shown = schema["properties"][field.encode_name]
            if field.name in texts:
                shown["description"] = texts[field.name]
            if whole:
                shown.pop("default", None)
        if whole:
            schema["required"] = [one.encode_name for one in fields if one.default is not UNSET]

    def _exemplify(self, schema: dict[str, Any]) -> None:
        for shown in schema.get("properties", {}).values():
            if "$ref" not in shown and (example := self.example(shown)) is not UNSET:
                shown.setdefault("examples", [example])


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without a choice of one, and with the type of values that are all text."""
    if len(choices := schema.get("anyOf", ())) == 1:
        schema = {**schema, **choices[0]}
        del schema["anyOf"]
    values = schema.get("enum", ())
    if values and all(isinstance(value, str) for value in values):
        # Not "const" where there is one value: openapi-python-client then refuses other choices.
        schema = {**schema, "type": "string"}
    return schema


def _types(kinds: Iterable[Any]) -> list[Any]:
    return [
        choice
        for kind in kinds
        if kind is not None and not isinstance(kind, Mapping)
        for choice in (get_args(kind) if isinstance(kind, UnionType) else (kind,))
    ]


def _classes(kinds: Iterable[Any]) -> Iterator[type]:
    """Yield every struct and enum that the types are made of."""
    seen: set[int] = set()
    for info in inspect.multi_type_info(kinds):
        yield from _within(info, seen)


def _within(part: Any, seen: set[int]) -> Iterator[type]:
    if isinstance(part, (inspect.StructType, inspect.EnumType)):
        if id(part) in seen:
            return
        seen.add(id(part))
        yield part.cls
    if isinstance(part, (inspect.Type, inspect.Field)):
        parts = [getattr(part, name) for name in part.__struct_fields__]
    else:
        parts = list(part) if isinstance(part, (list, tuple)) else []
    for one in parts:
        yield from _within(one, seen)
