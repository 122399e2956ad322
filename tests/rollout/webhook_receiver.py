"""A real HTTP server on this machine that answers what it is told to, and keeps what it got."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET_BYTES = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(SECRET_BYTES).decode()
SECRET_ENV = "ABTEST_TEST_SECRET"


@dataclass
class Got:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def is_signed_by(self, secret: bytes) -> bool:
        """Recompute the signature without abtest."""
        stamp = self.headers["webhook-timestamp"]
        signed = self.id.encode() + b"." + stamp.encode() + b"." + self.body
        want = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        return self.headers["webhook-signature"] == "v1," + want and abs(time.time() - int(stamp)) < 60


@dataclass
class Receiver:
    """`answers` are used one after the other, the last for good: a status, or (status, headers), "hang" or "drip"."""

    answers: list[object] = field(default_factory=lambda: [200])
    got: list[Got] = field(default_factory=list)
    port: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/secret-path"

    def next_answer(self) -> object:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def running(*answers: object, port: int = 0) -> Iterator[Receiver]:
    """Run a receiver; with `port` on the address that an earlier one had."""
    receiver = Receiver(list(answers) or [200])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.got.append(Got(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            answer = receiver.next_answer()
            if answer == "hang":
                receiver.released.wait(20)
                return
            if answer == "drip":  # a byte now and then: no single read ever times out
                for byte in b"HTTP/1.1 200 OK\r\nx-slow: " + b"y" * 200:
                    if receiver.released.wait(0.05):
                        return
                    self.wfile.write(bytes([byte]))
                return
            status, headers = answer if isinstance(answer, tuple) else (answer, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def handle(self) -> None:
            with suppress(OSError):  # the sender gave up
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
