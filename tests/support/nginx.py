"""A real nginx in front of a server, on a free loopback port, with its files in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 30
_PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
_CONFIGURATION = """
daemon off;
master_process off;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""


@contextmanager
def nginx(place: Path, locations: str) -> Iterator[str]:
    """Run nginx with these ``location`` blocks; yields the URL of its root."""
    program = shutil.which("nginx", path=_PLACES)
    assert program is not None, "nginx is missing (Debian, Ubuntu: apt-get install nginx)"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    file = place / "nginx.conf"
    file.write_text(_CONFIGURATION.format(place=place, port=port, locations=locations))
    with subprocess.Popen([program, "-p", str(place), "-c", str(file)]) as process:
        try:
            _wait(process, port, place)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], port: int, place: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None, (place / "error.log").read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "nginx did not start in time"
            time.sleep(0.02)
        else:
            return
