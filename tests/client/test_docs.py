"""The examples in the client's documentation run, from the first to the last."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.signed_trees import SignedTrees

PAGE = Path(__file__).parents[2] / "docs" / "client.md"


def test_the_examples_run(server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # the examples save files in the working directory
    monkeypatch.setenv("QUIRE_URL", server.url)
    monkeypatch.setenv("QUIRE_API_KEY", server.admin_key)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
        SignedTrees(server).sign()  # done by the signer within a second
    assert (tmp_path / "evidence.zip").stat().st_size
