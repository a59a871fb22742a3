"""docs/operations.md agrees with the code."""

import json
import re
import subprocess
import sys
from pathlib import Path

from server.settings import KEY_ALIASES, Settings, documented
from server.settings.data_dir import LOCK_NAME

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def test_the_settings_table_is_the_code_s() -> None:
    rows = re.findall(r"^\| `(QUIRE_\w+)` \| (?:`(.*?)`)? ?\| (.+?) \|$", PAGE, re.MULTILINE)
    assert rows == [tuple(row) for row in documented()]


def test_names_on_the_page_exist() -> None:
    settings = Settings()
    for path in (settings.master_key_path, settings.signing_keyring_path, settings.log_keys_path):
        assert f"`{path.name}`" in PAGE
    assert f"`{LOCK_NAME}`" in PAGE
    assert all(f"`{alias}`" in PAGE for alias in KEY_ALIASES)


COLLECTED = """
import json
from server import metrics
from server.app.features import FEATURES

for module in [module for feature in FEATURES for module in feature.metrics]:
    __import__(module)
print(json.dumps([(each.name, each.type, each.documentation) for each in metrics.REGISTRY.collect()]))
"""
"""Run in a process of its own: a domain that another test plugs in adds metrics here."""


def test_the_metrics_table_is_the_code_s() -> None:
    rows = re.findall(r"^\| `(quire_\w+)` \| (\w+) \| (.+?) \|$", PAGE, re.MULTILINE)
    ran = subprocess.run([sys.executable, "-c", COLLECTED], check=True, capture_output=True)
    assert rows == [
        (name + "_total" * (kind == "counter"), kind, documentation)
        for name, kind, documentation in json.loads(ran.stdout)
    ]
