"""The names that `quire witness init` accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.refusal import StartupRefused
from server.witness.home import WitnessDirectory, create, load_keys


@pytest.mark.parametrize("name", ["müller.example/w1", "witness.example/ш"])
def test_a_name_that_a_key_file_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(StartupRefused, match=r"not ASCII.*xn--"):
        create(tmp_path / "witness", name)
    assert not (tmp_path / "witness").exists()


def test_the_keys_of_a_witness_can_be_read_again(tmp_path: Path) -> None:
    made = create(tmp_path, "xn--mller-kva.example/w1")
    read = load_keys(WitnessDirectory(tmp_path))
    assert [signer.vkey() for signer in read] == [signer.vkey() for signer in made]


def test_lost_keys_are_named_with_the_way_on(tmp_path: Path) -> None:
    home = WitnessDirectory(tmp_path)
    with pytest.raises(StartupRefused, match="quire witness init NAME"):
        load_keys(home)
    create(tmp_path, "witness.example/w1")
    home.keys.unlink()
    with pytest.raises(StartupRefused, match=r"keys are missing.*backup: cp BACKUP/witness.keys"):
        load_keys(home)
