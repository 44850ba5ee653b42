"""A registry on loopback that answers as a test tells it to, and can be down, slow, or wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["FakeRegistry", "fake_registry"]


@dataclass
class FakeRegistry:
    """`answers`: what comes next, (status, body), the last one for ever; a body of bytes is sent as it is."""

    url: str
    answers: list[tuple[int, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    hang: threading.Event | None = None


@contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    """A fake registry; its `hang`, where set, holds every answer back until it is released."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.fake = FakeRegistry(f"http://127.0.0.1:{server.server_address[1]}/base")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.fake  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        fake: FakeRegistry = self.server.fake  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fake.requests.append((self.command, self.path, json.loads(body) if body else None))
        fake.headers.append(dict(self.headers))
        if fake.hang is not None:
            fake.hang.wait()
        status, answer = fake.answers.pop(0) if len(fake.answers) > 1 else fake.answers[0]
        payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""
