"""The text that `quire serve` prints once it serves."""

from __future__ import annotations

import shlex
from pathlib import Path

from server.access.beginnings import DEMO_KEY, DEMO_ORG
from server.access.keys.platform_keys import PLATFORM_KEY, ROTATE, KeyFile
from server.settings import Settings


def banner(settings: Settings, url: str, platform: KeyFile) -> str:
    """Return the address, the key files, a command to append and a command to verify."""
    database = "PostgreSQL of QUIRE_DATABASE_URL"
    if settings.embedded:
        database = f"embedded PostgreSQL in {_short(settings.data_dir)}"
    lines = [
        "",
        f"Quire serves {url}  ({database})",
        f"  API description   {url}/docs",
        f"  Platform key      {_platform(settings, platform)}",
    ]
    demo = settings.data_dir / DEMO_KEY
    if settings.embedded and demo.exists():
        key = f'"x-api-key: $(cat {shlex.quote(_short(demo))})"'
        org = f"{url}/v1/orgs/{DEMO_ORG}"
        event = '{"event_type":"user.login","actor":"alice","outcome":"success"}'
        lines += [
            f"  Admin key of org '{DEMO_ORG}'  {_short(demo)}",
            "",
            "Append an event:",
            f"  curl -H {key} -H 'content-type: application/json' \\",
            f"    {org}/entries -d '{event}'",
            "",
            "Verify the whole trail:",
            f"  curl -X POST -H {key} '{org}/verifications?wait=30'",
        ]
    return "\n".join([*lines, "", "Stop with Ctrl-C.", ""])


def _platform(settings: Settings, state: KeyFile) -> str:
    path = _short(settings.data_dir / PLATFORM_KEY)
    if state is KeyFile.VALID:
        return path
    return f"{path} {state.value}; make a new key with: {ROTATE}"


def _short(path: Path) -> str:
    """Return the path relative to the working directory if it is inside."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
