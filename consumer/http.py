"""`/livez`, `/readyz` and `/metrics` of a whole process group on one small server, in threads of its own.

It never waits for Kafka: it asks three callables that read what the supervisor already knows. A probe's answer is
200 or 503 with the reasons as JSON; where a callable fails there is no answer, and an error in the log.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from consumer.errors import ConfigError
from consumer.log import get_logger
from consumer.metrics import CONTENT_TYPE

__all__ = ["HealthServer", "Probe"]

Probe = Callable[[], tuple[bool, Mapping[str, Any]]]
"""Whether all is well, and the reasons; called from threads of the server."""

log = get_logger(__name__)


class HealthServer:
    """Serves from construction until `close`.

    Args:
        host: `CONSUMER_HTTP__HOST`, a name or an address, IPv6 included.
        port: `CONSUMER_HTTP__PORT`; here 0 takes any free port, so ask for none if the setting is 0.
        livez: 200 while this process group works or may still recover by itself.
        readyz: 200 while it has joined and is neither stopping nor broken.
        metrics: the text of `/metrics`.

    Raises:
        ConfigError: the host or the port cannot be bound.
    """

    def __init__(self, host: str, port: int, *, livez: Probe, readyz: Probe, metrics: Callable[[], str]) -> None:
        try:
            self._server = _Server(host, port)
        except OSError as error:
            raise ConfigError(
                f"CONSUMER_HTTP__HOST {host} and CONSUMER_HTTP__PORT {port} cannot be used ({error.strerror}): set an "
                "address of this machine and a free port, or port 0 for none"
            ) from error
        self._server.probes = {"/livez": livez, "/readyz": readyz}
        self._server.metrics = metrics
        self.port: int = self._server.server_address[1]
        """The port that is really bound."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving and free the port; requests under way are not waited for."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, TCPServer):
    """Not `http.server.HTTPServer`: that asks the name service for the host's full name, which can hang."""

    daemon_threads = True
    allow_reuse_address = True
    probes: Mapping[str, Probe]
    metrics: Callable[[], str]

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.warning("http request failed", exception=sys.exception())


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "checkpoint-consumer"
    timeout = 5.0
    """Seconds that a client may be silent for."""

    def do_GET(self) -> None:
        """Answer one request; the connection is closed after it, as HTTP/1.0 says."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, CONTENT_TYPE, self.server.metrics())
        elif path in self.server.probes:
            ok, reasons = self.server.probes[path]()
            self._answer(200 if ok else 503, "application/json", json.dumps({"ok": ok, **reasons}) + "\n")
        else:
            self._answer(404, "text/plain; charset=utf-8", "there are /livez, /readyz and /metrics\n")

    def _answer(self, status: int, content_type: str, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that is overridden
        """No access log: probes would fill it."""
