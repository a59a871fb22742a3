"""The parameters that several routes have, with their descriptions in the API."""

from __future__ import annotations

from typing import Annotated

from litestar.params import PathParameter, QueryParameter

MAX_TEXT_CHARS = 1_024

OrgSlug = Annotated[str, PathParameter(description="Slug of the org")]
RecordName = Annotated[
    str, PathParameter(description='Id of an entry: "rec_" and 32 lower-case hex digits')
]
EntryName = Annotated[
    str,
    PathParameter(
        description='Id of an entry ("rec_" and 32 lower-case hex digits), or the integer id '
        "that QWED gave an imported row of the key's org"
    ),
]
KeyId = Annotated[str, PathParameter(description="Id of an API key: 16 lower-case hex digits")]
Cursor = Annotated[
    str | None,
    QueryParameter(
        max_length=MAX_TEXT_CHARS,
        description="next_cursor of the page before; none: the first page",
    ),
]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="Most rows of the page")]
