"""The parameters that several routes have, with their descriptions in the API."""

from __future__ import annotations

from typing import Annotated

from litestar.params import PathParameter, QueryParameter

from ledger.shapes import RECORD_ID_EXAMPLE

MAX_TEXT_CHARS = 1_024

OrgSlug = Annotated[
    str, PathParameter(description="Slug of the org", schema_extra={"examples": ["acme"]})
]
RecordName = Annotated[
    str,
    PathParameter(
        description='Id of an entry: "rec_" and 32 lower-case hex digits',
        schema_extra={"examples": [RECORD_ID_EXAMPLE]},
    ),
]
EntryName = Annotated[
    str,
    PathParameter(
        description='Id of an entry ("rec_" and 32 lower-case hex digits), or the integer id '
        "that QWED gave an imported row of the key's org",
        schema_extra={"examples": [RECORD_ID_EXAMPLE]},
    ),
]
KeyId = Annotated[
    str,
    PathParameter(
        description="Id of an API key: 16 lower-case hex digits",
        schema_extra={"examples": ["9f86d081884c7d65"]},
    ),
]
Cursor = Annotated[
    str | None,
    QueryParameter(
        max_length=MAX_TEXT_CHARS,
        description="next_cursor of the page before; none: the first page",
        schema_extra={"examples": ["MQAAAAAAAAAq"]},
    ),
]
SlugCursor = Annotated[
    str | None,
    QueryParameter(
        max_length=MAX_TEXT_CHARS,
        description="next_cursor of the page before; none: the first page",
        schema_extra={"examples": ["acme"]},
    ),
]
KeyCursor = Annotated[
    str,
    QueryParameter(
        max_length=64,
        description="next_cursor of the page before; none: the first page",
        schema_extra={"examples": ["9f86d081884c7d65"]},
    ),
]
OrganizationId = Annotated[
    str | None,
    QueryParameter(
        name="organization_id",
        max_length=63,
        description="Slug of the org; none: that of the key",
        schema_extra={"examples": ["acme"]},
    ),
]
MAX_EVENT = 2**63 - 1
BeforeEvent = Annotated[
    int,
    QueryParameter(
        ge=0,
        le=MAX_EVENT,
        description="next_cursor of the page before; none: the newest",
        schema_extra={"examples": [7]},
    ),
]
Limit = Annotated[
    int,
    QueryParameter(
        ge=1,
        le=1000,
        description="How many rows the page has at most",
        schema_extra={"examples": [100]},
    ),
]
