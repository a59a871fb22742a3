"""A real RFC 3161 authority for tests: `openssl ts -reply` behind a small HTTP server.

Its faults are those of real authorities: unreachable, slow, of another CA, answering another
request, refusing, or not an authority at all.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID

from ledger.timestamp import query
from ledger.timestamp.der import whole
from tests.support.certificates import Issued, issue

POLICY = "1.3.6.1.4.1.99999.1"
OTHER_POLICY = "1.3.6.1.4.1.99999.2"
DELAY_S = 30.0
POLL_S = 0.02  # interval of the checks whether to stop
_STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
_TRIES = 1_000

_ACCURACY = "accuracy = secs:1, millisecs:500, microsecs:100"
_CONFIG = """\
[tsa]
default_tsa = here
[here]
serial = {directory}/serial
signer_cert = {directory}/{certificate}.pem
signer_key = {directory}/{certificate}.key
{chain}
signer_digest = sha256
default_policy = {policy}
other_policies = {other}
digests = sha256, sha384, sha512
{accuracy}
ess_cert_id_alg = {ess}
"""


class Mode(Enum):
    """How the authority answers."""

    GOOD = "as it should"
    CHAIN = "with its whole chain in the token, in the order of the chain"
    SHA1_ID = "naming its certificate by SHA-1, as RFC 3161 first said"
    NO_ACCURACY = "without saying how accurate it is"
    OTHER_CA = "with a certificate that another CA issued under the same names"
    OTHER_NONCE = "with a fresh and valid token for another request"
    SLOW = "after half a minute"
    ERROR = "503"
    PAGE = "with a web page"
    ENDLESS = "with a body that does not end"


class TimestampAuthority:
    """An authority with a root, an intermediate and a signing certificate, on loopback.

    Its clients trust ``ca_pem``; ``mode`` may be changed at any time.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.mode = Mode.GOOD
        self.requests = 0
        self._serial = threading.Lock()  # openssl does not lock its serial file
        self._stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._make_certificates()
        (directory / "serial").write_text("01\n")

    def _make_certificates(self) -> None:
        root = issue("Test Root")
        intermediate = issue("Test Intermediate", root)
        self.tsa = issue("Test TSA", intermediate, _STAMPING)
        self.tsa.write(self.directory, "tsa")
        other = issue("Test Intermediate", issue("Test Root"))
        issue("Test TSA", other, _STAMPING).write(self.directory, "other_ca")
        code = issue("Test TSA", intermediate, ExtendedKeyUsageOID.CODE_SIGNING)
        code.write(self.directory, "code")
        self._intermediate = intermediate
        (self.directory / "chain.pem").write_bytes(intermediate.pem() + root.pem())
        self.ca_pem = root.pem() + intermediate.pem()
        self.ca_file = self.directory / "ca.pem"
        self.ca_file.write_bytes(self.ca_pem)
        self.root_pem = root.pem()

    def reissued(self) -> Issued:
        """Another certificate for the authority's key, with the same length in bytes."""
        for _ in range(_TRIES):  # an ECDSA signature has 70 to 72
            again = issue("Test TSA", self._intermediate, _STAMPING, self.tsa)
            if len(again.der()) == len(self.tsa.der()):
                return again
        raise AssertionError("no signature of the right length")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/tsr"

    def reply(self, request: bytes, mode: Mode = Mode.GOOD) -> bytes:
        """The DER of a TimeStampResp, made by OpenSSL."""
        certificate = "other_ca" if mode is Mode.OTHER_CA else "tsa"
        config = _CONFIG.format(
            directory=self.directory,
            certificate=certificate,
            chain=f"certs = {self.directory}/chain.pem" if mode is Mode.CHAIN else "",
            policy=POLICY,
            other=OTHER_POLICY,
            accuracy="" if mode is Mode.NO_ACCURACY else _ACCURACY,
            ess="sha1" if mode is Mode.SHA1_ID else "sha256",
        )
        with self._serial:
            (self.directory / "tsa.cnf").write_text(config)
            (self.directory / "query").write_bytes(request)
            command = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query"]
            done = subprocess.run(
                [*command, "-out", "reply"], cwd=self.directory, capture_output=True, check=False
            )
            assert done.returncode == 0, done.stderr.decode()
            return (self.directory / "reply").read_bytes()

    def forge(self, token: bytes, certificate: str, *options: str) -> bytes:
        """A token with the same content, signed with another certificate by `openssl cms`.

        `openssl ts` refuses to sign with a certificate that is not for time stamping.
        """
        path = self.directory / "info"
        path.write_bytes(_tst_info(token))
        signer = ["-signer", f"{certificate}.pem", "-inkey", f"{certificate}.key"]
        form = ["-econtent_type", "1.2.840.113549.1.9.16.1.4", "-nodetach", "-binary"]
        done = subprocess.run(
            ["openssl", "cms", "-sign", "-in", path, "-outform", "DER", *signer, *form, *options],
            cwd=self.directory,
            capture_output=True,
            check=True,
        )
        return done.stdout

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening: the authority can no longer be reached."""
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                authority.requests += 1
                request = self.rfile.read(int(self.headers["content-length"]))
                authority._answer(self, request)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler, request: bytes) -> None:
        match self.mode:
            case Mode.SLOW:
                self._stopping.wait(DELAY_S)
                return
            case Mode.ERROR:
                handler.send_error(503)
            case Mode.PAGE:
                _send(handler, b"<html>Welcome to the authority</html>", "text/html")
            case Mode.ENDLESS:
                self._send_without_end(handler)
            case Mode.OTHER_NONCE:
                _send(handler, self.reply(query(b"another message", 7)))
            case mode:
                _send(handler, self.reply(request, mode))

    def _send_without_end(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "application/timestamp-reply")
        handler.end_headers()
        try:
            while not self._stopping.is_set():
                handler.wfile.write(bytes(1 << 16))
                time.sleep(0.001)
        except OSError:
            pass  # the client closed the connection, as it should


def _send(
    handler: BaseHTTPRequestHandler, body: bytes, kind: str = "application/timestamp-reply"
) -> None:
    handler.send_response(200)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _tst_info(token: bytes) -> bytes:
    """The TSTInfo of a token, which its signature covers."""
    signed_data = whole(token).parts()[1].parts()[0]
    (octets,) = signed_data.parts()[2].parts()[1].parts()
    return octets.content


@contextmanager
def running_authority(directory: Path) -> Iterator[TimestampAuthority]:
    """An authority that answers until the context ends."""
    authority = TimestampAuthority(directory)
    authority.start()
    try:
        yield authority
    finally:
        authority.stop()
