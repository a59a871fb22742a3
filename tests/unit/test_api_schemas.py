"""Schemas of types: shapes are hoisted, docstrings are read, examples are put together."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from msgspec import UNSET, Meta, Struct, UnsetType

from ledger.shapes import shape
from server.http.api.docstrings import prose, type_text
from server.http.api.schemas import ApiSchemas, ref

Colour = Annotated[Literal["red", "blue"], shape("Colour", "A colour.", "red")]
OtherColour = Annotated[Literal["red", "green"], shape("Colour", "A colour.", "red")]


class Size(StrEnum):
    """How large a kite is."""

    SMALL = "small"
    """A child holds it."""
    LARGE = "large"


class KiteTail(Struct):
    """The tail of a kite."""

    length_m: Annotated[float, Meta(examples=[2.5])]
    """Length in metres."""
    title: Colour = "red"
    """Named like a keyword of JSON schema."""


class KiteBody(KiteTail, rename={"size": "extent"}):
    """A kite, ``flown``
    by somebody."""

    size: Size = Size.SMALL
    """How large it is."""
    colours: list[Colour] = []
    """All its colours, in their order
    from the top."""
    first: Annotated[Colour | None, Meta(examples=[None, "blue"])] = None
    tail: KiteTail | UnsetType = UNSET
    spare: list[KiteBody] | UnsetType = UNSET
    """Kites of the same make."""


def named(bodies: list[Any], answers: list[Any]) -> dict[str, Any]:
    return ApiSchemas(bodies, answers, {}).named


def test_a_shape_is_shown_once_under_its_title() -> None:
    schemas = named([], [KiteBody])
    assert schemas["Colour"] == {
        "title": "Colour",
        "description": "A colour.",
        "examples": ["red"],
        "enum": ["blue", "red"],
        "type": "string",
    }
    fields = schemas["KiteBody"]["properties"]
    assert fields["colours"]["items"] == ref("Colour")
    assert fields["title"] == {
        **ref("Colour"),
        "description": "Named like a keyword of JSON schema.",
    }
    assert fields["first"]["anyOf"] == [ref("Colour"), {"type": "null"}]


def test_two_shapes_can_t_have_one_title() -> None:
    schemas = ApiSchemas([], [KiteBody], {})
    with pytest.raises(ValueError, match="two shapes have the title Colour"):
        schemas.of(OtherColour)


def test_a_field_may_have_an_example_of_its_own_beside_its_shape() -> None:
    schemas = ApiSchemas([], [KiteBody], {})
    mine = Annotated[Colour, Meta(examples=["blue"])]
    assert schemas.of(mine) == {**ref("Colour"), "examples": ["blue"]}
    assert schemas.named["Colour"]["examples"] == ["red"]


def test_an_answer_has_all_its_fields_and_a_body_may_leave_some_out() -> None:
    answer = named([], [KiteBody])["KiteBody"]
    assert answer["required"] == ["length_m", "title", "extent", "colours", "first"]
    assert "default" not in answer["properties"]["first"]
    body = named([KiteBody], [KiteBody])["KiteBody"]
    assert body["required"] == ["length_m"]
    assert body["properties"]["title"]["default"] == "red"


def test_docstrings_become_descriptions() -> None:
    kite = named([], [KiteBody])["KiteBody"]
    assert kite["description"] == "A kite, `flown` by somebody."
    texts = {name: field.get("description") for name, field in kite["properties"].items()}
    assert texts == {
        "length_m": "Length in metres.",
        "title": "Named like a keyword of JSON schema.",
        "extent": "How large it is.",
        "colours": "All its colours, in their order from the top.",
        "first": None,
        "tail": None,
        "spare": "Kites of the same make.",
    }
    assert type_text(Size) == "How large a kite is.\n- `small`: A child holds it."
    assert prose("One\n    line.\n\n    Two ``lines``.") == "One line.\n\nTwo `lines`."


def test_examples_are_made_of_the_examples_of_the_parts() -> None:
    schemas = ApiSchemas([], [KiteBody], {})
    assert schemas.example(ref("KiteBody")) == {
        "length_m": 2.5,
        "title": "red",
        "extent": "small",
        "colours": ["red"],
        "first": None,
    }
    assert schemas.example({"type": "array", "items": {"type": "integer"}}) is UNSET
    assert schemas.example({"type": "boolean", "default": False}) is False
