"""Anchors are timestamped by a real authority, the stamps renewed, and signing never waits for it."""

from pathlib import Path

import asyncpg

from ledger.core.attesting.anchors import AnchorAttestation
from ledger.core.attesting.timestamping import Tsa
from ledger.storage import trees
from ledger.storage.database import Database
from ledger.timestamp import verify
from tests.support import clusters
from tests.support.appending import new_org, process
from tests.support.signing import checkpointer, signer_pool
from tests.support.timestamp_authority import Mode, TimestampAuthority


async def test_the_newest_anchor_is_stamped_once(
    database: clusters.Database, tmp_path: Path, timestamp_authority: TimestampAuthority
) -> None:
    async with (
        process(database.server_url) as server,
        checkpointer(database.server_url, tmp_path / "memory") as signer,
        signer_pool(database) as signed,
        Tsa(timestamp_authority.url, timestamp_authority.ca_pem) as tsa,
    ):
        attestation = AnchorAttestation(signed, tsa, ())
        assert await attestation.attest(stamp=True) == (0, 0, (), ()), "nothing is anchored yet"
        await server.append(await new_org(server.database), b"one")
        await signer.round()
        assert await signer.anchor() == 1
        assert (await attestation.attest(stamp=False)).tokens == 0
        assert (await attestation.attest(stamp=True)).tokens == 1
        assert (await attestation.attest(stamp=True)).tokens == 0
        anchor = await trees.newest_checkpoint(server.database, trees.ANCHOR_LOG)
        (stored,) = await trees.tokens(server.database, 1)
        assert anchor is not None
        said = verify(stored.token, anchor.note, timestamp_authority.ca_pem)
        assert said.gen_time == stored.gen_time


async def test_an_unreachable_authority_delays_only_stamps(
    database: clusters.Database, tmp_path: Path, timestamp_authority: TimestampAuthority
) -> None:
    async with (
        process(database.server_url) as server,
        checkpointer(database.server_url, tmp_path / "memory") as signer,
        signer_pool(database) as signed,
        Tsa(timestamp_authority.url, timestamp_authority.ca_pem) as tsa,
    ):
        attestation = AnchorAttestation(signed, tsa, ())
        org = await new_org(server.database)
        for size, mode in enumerate([Mode.ERROR, Mode.PAGE, Mode.OTHER_CA, Mode.OTHER_NONCE], 1):
            timestamp_authority.mode = mode
            await server.append(org, b"one")
            await signer.round()
            assert await signer.anchor() == size
            done = await attestation.attest(stamp=True)
            assert done.tokens == 0
            assert len(done.problems) == 1
            assert f"anchor {size}" in done.problems[0].reason
        timestamp_authority.mode = Mode.GOOD
        assert (await attestation.attest(stamp=True)).tokens == 1
        assert await trees.tokens(server.database, 4)


async def test_an_old_stamp_is_renewed_beside_itself(
    database: clusters.Database, tmp_path: Path, timestamp_authority: TimestampAuthority
) -> None:
    async with (
        process(database.server_url) as server,
        checkpointer(database.server_url, tmp_path / "memory") as signer,
        signer_pool(database) as signed,
        Tsa(timestamp_authority.url, timestamp_authority.ca_pem) as tsa,
    ):
        attestation = AnchorAttestation(signed, tsa, ())
        await server.append(await new_org(server.database), b"one")
        await signer.round()
        await signer.anchor()
        await attestation.attest(stamp=True)
        assert (await attestation.renew(days=300)).tokens == 0
        await _age_tokens(database)
        assert (await attestation.renew(days=300)).tokens == 1
        assert (await attestation.renew(days=300)).tokens == 0
        first, second = await _tokens(server.database)
        assert first != second


async def test_the_last_stamp_of_each_day_is_renewed(
    database: clusters.Database, tmp_path: Path, timestamp_authority: TimestampAuthority
) -> None:
    async with (
        process(database.server_url) as server,
        checkpointer(database.server_url, tmp_path / "memory") as signer,
        signer_pool(database) as signed,
        Tsa(timestamp_authority.url, timestamp_authority.ca_pem) as tsa,
    ):
        attestation = AnchorAttestation(signed, tsa, ())
        org = await new_org(server.database)
        for _ in range(3):
            await server.append(org, b"one")
            await signer.round()
            await signer.anchor()
            await attestation.attest(stamp=True)
        await _age_tokens(database)
        assert (await attestation.renew(days=300)).tokens == 1
        assert [len(await trees.tokens(server.database, size)) for size in (1, 2, 3)] == [1, 1, 2]


async def _age_tokens(database: clusters.Database) -> None:
    connection = await asyncpg.connect(
        database.superuser_url, server_settings={"session_replication_role": "replica"}
    )
    try:
        await connection.execute(
            "UPDATE anchor_tokens SET gen_time = '2020-02-02T12:00Z', "
            "added_at = added_at - interval '1 year'"
        )
    finally:
        await connection.close()


async def _tokens(database: Database) -> list[bytes]:
    return [stored.token for stored in await trees.tokens(database, 1)]
