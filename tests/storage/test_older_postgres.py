"""The schema and the server on the oldest PostgreSQL at hand: the bundled 16.

With `make test-postgres`: on the PostgreSQL that it names.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.embedded import EmbeddedPostgres, binaries
from tests.support import other_postgres
from tests.support.clusters import Cluster
from tests.support.serving import start_server


@pytest.fixture
def older_cluster(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster of the PostgreSQL 16 in the same distribution, or of the named PostgreSQL."""
    monkeypatch.setattr(binaries, "_INSTALL", "pginstall")
    monkeypatch.setattr(binaries, "MAJOR_VERSION", 16)
    postgres = EmbeddedPostgres(data_dir)
    postgres.start()
    yield Cluster(postgres)
    postgres.stop()


def test_an_older_postgres_is_appended_to_erased_from_and_verified(
    older_cluster: Cluster, session_dir: Path
) -> None:
    server = start_server(older_cluster.migrated(), session_dir / "older")
    try:
        version = (older_cluster.postgres.data / "PG_VERSION").read_text().strip()
        assert version == str(other_postgres.named_major() or 16)
        org, key = server.create_org()
        events = [{"event_type": "a", "subject": f"p{n % 5}", "actor": "x"} for n in range(500)]
        posted = server.request("POST", f"/v1/orgs/{org}/entries", events, key=key)
        assert posted.status == 201, posted.body
        assert server.request("DELETE", f"/v1/orgs/{org}/subjects/p3", key=key).status == 200
        job = server.request("POST", f"/v1/orgs/{org}/verifications?wait=30", key=key).json()
        assert job["result"]["valid"]
        assert job["result"]["total_entries"] == 501
    finally:
        server.stop()
