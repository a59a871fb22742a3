"""A real headless Chromium, driven through the W3C WebDriver interface of its driver."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

_STARTS_WITHIN_S: Final = 30
_ANSWERS_WITHIN_S: Final = 120
ELSEWHERE: Final = "elsewhere.test"
"""A host name of this machine that the browser does not treat as local."""
_ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",  # the tests may run as root, and load only pages of ours
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
)


class Browser:
    """One window. A call that fails raises AssertionError with the driver's message."""

    def __init__(self, port: int, session: str) -> None:
        self._port = port
        self._session = session

    def open(self, url: str) -> None:
        self.command("POST", "url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        """Run a function body, which may await; returns its value."""
        body = (
            "const done = arguments[arguments.length - 1]; "
            f"(async function () {{ {script} }}).apply(null, arguments)"
            ".then(value => done({value}), error => done({error: String(error)}))"
        )
        answer = self.command("POST", "execute/async", {"script": body, "args": list(arguments)})
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def wait(self, condition: str, *arguments: object, seconds: float = 60) -> Any:
        """Wait until an expression is true; returns its value."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(f"return {condition}", *arguments)):
            assert time.monotonic() < deadline, f"never came true: {condition}"
            time.sleep(0.02)
        return value

    def choose_file(self, css: str, *paths: Path) -> None:
        """Give files to a file input, as its dialog does."""
        found = self.command("POST", "element", {"using": "css selector", "value": css})
        element = next(iter(found.values()))
        self.command("POST", f"element/{element}/value", {"text": "\n".join(map(str, paths))})

    def press(self, key: str) -> None:
        """Press and release one key."""
        keys = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self.command("POST", "actions", {"actions": [{"type": "key", "id": "k", "actions": keys}]})

    def devtools(self, command: str, **parameters: object) -> Any:
        """Run a command of the Chrome DevTools Protocol."""
        return self.command("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})

    def console(self) -> list[str]:
        """The console's messages since the last call: errors, refused loads."""
        entries = self.command("POST", "se/log", {"type": "browser"})
        return [entry["message"] for entry in entries]

    def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.command("GET", "screenshot"))

    def command(self, method: str, path: str, body: object = None) -> Any:
        return _ask(self._port, method, f"/session/{self._session}/{path}", body)


@contextmanager
def browser(directory: Path) -> Iterator[Browser]:
    """A browser with an empty profile below this directory; killed when the block ends."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    assert driver is not None, "apt-get install chromium-driver"
    assert chromium is not None, "apt-get install chromium"
    profile = directory / "chromium"
    port = _free_port()
    with (directory / "chromedriver.log").open("wb") as log:
        process = subprocess.Popen(
            [driver, f"--port={port}"], stdout=log, stderr=log, start_new_session=True
        )
    try:
        _until_ready(port, process)
        options = {
            "binary": chromium,
            "args": [*_ARGUMENTS, f"--user-data-dir={profile}", "--window-size=1280,900"],
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        opened = _ask(port, "POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        window = Browser(port, opened["sessionId"])
        window.command("POST", "timeouts", {"script": _ANSWERS_WITHIN_S * 1000})
        yield window
        window.command("DELETE", "")
    finally:
        # The browser is the driver's child, in the session that was started for both.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while True:
        assert process.poll() is None, "chromedriver ended; its log says why"
        assert time.monotonic() < deadline, "chromedriver does not answer"
        with contextlib.suppress(OSError):
            if _ask(port, "GET", "/status")["ready"]:
                return
        time.sleep(0.02)


def _ask(port: int, method: str, path: str, body: object = None) -> Any:
    connection = HTTPConnection("127.0.0.1", port, timeout=_ANSWERS_WITHIN_S)
    try:
        data = None if method == "GET" else json.dumps(body or {})
        connection.request(method, path.removesuffix("/"), data)
        answer = json.loads(connection.getresponse().read())["value"]
    finally:
        connection.close()
    failed = isinstance(answer, dict) and "error" in answer and "stacktrace" in answer
    assert not failed, f"{path}: {answer['error']}: {answer['message'][:500]}"
    return answer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
