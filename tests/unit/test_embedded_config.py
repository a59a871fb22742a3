"""Settings of the embedded PostgreSQL that depend on the machine and on names."""

from pathlib import Path

import pytest

from server.embedded.config import memory_bytes, server_settings, shared_buffers_bytes


@pytest.mark.parametrize(
    ("memory_mib", "buffers_mib"),
    [(256, 128), (512, 128), (1024, 256), (4096, 1024), (8192, 2048), (65536, 2048)],
)
def test_shared_buffers_are_a_quarter_of_the_memory_within_bounds(
    memory_mib: int, buffers_mib: int
) -> None:
    assert shared_buffers_bytes(memory_mib << 20) == buffers_mib << 20


def test_a_container_limit_counts_as_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlimited, limit, absent = (tmp_path / name for name in ("unlimited", "limit", "absent"))
    unlimited.write_text("max\n")
    limit.write_text(f"{64 << 20}\n")
    monkeypatch.setattr("server.embedded.config._CGROUP_LIMITS", (unlimited, absent))
    assert memory_bytes() > 64 << 20
    monkeypatch.setattr("server.embedded.config._CGROUP_LIMITS", (unlimited, limit, absent))
    assert memory_bytes() == 64 << 20


def test_names_are_quoted() -> None:
    text = server_settings(
        cluster_name="quire-1", socket_dir=Path('/it\'s/a "b"'), log_dir=Path("/l\\og")
    )
    assert 'unix_socket_directories = \'"/it\'\'s/a ""b"""\'\n' in text
    assert "log_directory = '/l\\\\og'\n" in text
