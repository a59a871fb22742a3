"""The timestamp authority and the witnesses are read from the settings."""

from pathlib import Path

import pytest

from ledger.core.attesting.peer import trusted
from ledger.note import CosignatureSigner
from server.keys.attestors import attestors, timestamp_trust, witness_policy
from server.refusal import StartupRefused
from server.settings import Settings
from tests.support.certificates import issue

KEY = CosignatureSigner.from_seed("witness.example/w1", b"1" * 32)


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(issue("Test Root").pem())
    return path


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy"
    path.write_text(f"witness w {KEY.vkey()} https://witness.example\nquorum w\n")
    return path


async def test_neither_authority_nor_witnesses() -> None:
    async with attestors(Settings()) as found:
        assert found.tsa is None
        assert found.tsa_ca is None
        assert found.witnesses == ()
        assert found.policy.satisfied_by([])


async def test_authority_and_witnesses(ca: Path, policy: Path) -> None:
    settings = Settings(
        tsa_url="https://tsa.example/tsr", tsa_ca=ca, tsa_policy="1.2.3", witness_policy=policy
    )
    async with attestors(settings) as found:
        assert found.tsa is not None
        assert found.tsa.name == "the timestamp authority https://tsa.example"
        assert [witness.name for witness in found.witnesses] == [
            "the witness https://witness.example"
        ]
        assert not found.policy.satisfied_by([])
        assert found.policy.satisfied_by(["w"])


def test_timestamps_can_be_verified_without_an_authority_to_ask(ca: Path) -> None:
    assert timestamp_trust(Settings(tsa_ca=ca)) == ca.read_bytes()


def test_files_that_cannot_be_used_stop_the_start(tmp_path: Path, ca: Path) -> None:
    missing, wrong = tmp_path / "missing", tmp_path / "wrong"
    wrong.write_text("nonsense")
    for path in (missing, wrong):
        with pytest.raises(StartupRefused, match=rf"QUIRE_TSA_CA.*{path.name}"):
            timestamp_trust(Settings(tsa_ca=path))
        with pytest.raises(StartupRefused, match=rf"QUIRE_WITNESS_POLICY.*{path.name}"):
            witness_policy(Settings(witness_policy=path))
    wrong.write_text(f"witness w {KEY.vkey()} nowhere\nquorum w\n")
    with pytest.raises(StartupRefused, match="QUIRE_WITNESS_POLICY"):
        attestors(Settings(witness_policy=wrong))
    with pytest.raises(StartupRefused, match="QUIRE_TSA_URL"):
        attestors(Settings(tsa_url="http://[::", tsa_ca=ca))


@pytest.mark.parametrize(
    ("variable", "value"), [("SSL_CERT_FILE", "/none"), ("https_proxy", "notaurl://")]
)
def test_an_environment_that_cannot_be_used_is_named(
    ca: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    trusted.cache_clear()
    with pytest.raises(StartupRefused, match=variable):
        attestors(Settings(tsa_url="https://tsa.example", tsa_ca=ca))
