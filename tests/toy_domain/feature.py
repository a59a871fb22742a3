"""The toys' FEATURE."""

from typing import Final

from server.feature import Command, Feature
from tests.toy_domain.entry_kinds import WOUND
from tests.toy_domain.settings import ToySettings

FEATURE: Final = Feature(
    name="toys",
    routes=("tests.toy_domain.routes:router",),
    tags={"Toys": "What children of tenants play with."},
    errors=("tests.toy_domain",),
    settings=(ToySettings,),
    commands={"toys": Command("tests.toy_domain.commands:toys", "Say what toys are there.")},
    tasks=("tests.toy_domain.tasks:watch_toys",),
    metrics=("tests.toy_domain.metrics",),
    entry_kinds=(WOUND,),
)
