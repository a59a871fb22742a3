"""The settings of the toys."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class ToySettings:
    """The limit of turns, and the toys' maker."""

    toy_turns: Annotated[int, Meta(ge=1, le=100, description="Turns that a toy takes")] = 7
    toy_maker: Annotated[
        Annotated[str, Meta(pattern=r"^[a-z]+$")] | None,
        Meta(
            description="Maker of the toys; none: nobody knows",
            extra={"form": "a word in lower case", "secret": True},
        ),
    ] = None
