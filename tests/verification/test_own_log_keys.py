"""Log keys or a signer's memory of another database never make a running server refute a trail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ledger.core.checkpointing import MEMORY_FILE, SignerMemory, SignerMemoryUnavailable
from ledger.core.verification.work.faults import VerificationFailed
from ledger.log_keys import LogKeys, dump_log_keys, generate, rotate
from ledger.storage.key_checks import KnownKeys
from server.cli.base.private_file import replace_private_file
from server.keys.first_start import new_log_seeds
from server.keys.log_trust import TrustSource
from server.keys.own_keys import ForeignKeys, PresentKeys, require_own_keys
from server.settings import Settings

NOW_US = 1_700_000_000_000_000
OWN = generate("own.example", new_log_seeds(), NOW_US)
OTHER = generate("own.example", new_log_seeds(), NOW_US)


def first(keys: LogKeys) -> str:
    return keys.public().keys[0].digest


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    replace_private_file(tmp_path / "log-keys.json", dump_log_keys(OWN))
    return Settings.from_env({}, {"data_dir": tmp_path})


def test_log_keys_that_are_replaced_while_it_runs(settings: Settings) -> None:
    trust = TrustSource(settings)
    assert trust.of(1, "acme") is not None
    replace_private_file(
        settings.log_keys_path, dump_log_keys(rotate(OWN, new_log_seeds(), NOW_US))
    )
    assert trust.of(1, "acme") is not None
    replace_private_file(settings.log_keys_path, dump_log_keys(OTHER))
    with pytest.raises(VerificationFailed, match="of another database"):
        trust.of(1, "acme")
    replace_private_file(settings.log_keys_path, dump_log_keys(OWN))
    assert trust.of(1, "acme") is not None


def test_a_memory_that_is_replaced_while_it_runs(settings: Settings) -> None:
    path = settings.data_dir / MEMORY_FILE
    memory = SignerMemory(path)
    memory.belong(first(OTHER))
    memory.close()
    with pytest.raises(VerificationFailed, match="memory of another database"):
        TrustSource(settings).of(1, "acme")


def test_a_memory_beside_log_keys_of_another_log_is_refused_in_a_new_database(
    settings: Settings,
) -> None:
    memory = SignerMemory(settings.data_dir / MEMORY_FILE)
    memory.belong(first(OWN))
    memory.belong(first(OWN))
    with pytest.raises(SignerMemoryUnavailable, match="belongs to another log"):
        memory.belong(first(OTHER))
    memory.close()
    new = KnownKeys([], None, [])
    require_own_keys(new, PresentKeys.of(settings), settings)
    replace_private_file(settings.log_keys_path, dump_log_keys(OTHER))
    with pytest.raises(ForeignKeys, match="memory of another database"):
        require_own_keys(new, PresentKeys.of(settings), settings)


def test_files_only_the_signer_needs_do_not_stop_a_start_if_broken(settings: Settings) -> None:
    settings.log_keys_path.chmod(0o644)
    (settings.data_dir / MEMORY_FILE).write_bytes(b"torn")
    present = PresentKeys.of(settings)
    assert (present.log, present.remembered) == (None, None)


def test_a_file_of_the_settings_that_is_missing_is_named(settings: Settings) -> None:
    named = replace(settings, tsa_ca=Path("/none/ca.pem"))
    with pytest.raises(VerificationFailed, match=r": /none/ca.pem cannot be read: No such file"):
        TrustSource(named).of(1, "acme")
