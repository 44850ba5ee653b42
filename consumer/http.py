"""`/livez`, `/readyz` and `/metrics` of a whole process group on one small server, in threads of its own.

It never waits for Kafka: it asks three callables that read what the supervisor already knows. A probe's answer is
200 or 503 with the reasons as JSON. A client that takes longer than 5 s is cut off, and at most 16 are served at once,
so that slow clients take neither threads nor memory from the work.
"""

from __future__ import annotations

import errno
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from consumer.errors import ConfigError
from consumer.log import get_logger
from consumer.metrics import CONTENT_TYPE

__all__ = ["HealthServer", "Probe"]

Probe = Callable[[], tuple[bool, Mapping[str, Any]]]
"""Whether all is well, and the reasons; called from threads of the server."""

_REQUEST_SECONDS = 5.0
_MAX_CONNECTIONS = 16

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
        routes = {
            "/livez": _probe(livez),
            "/readyz": _probe(readyz),
            "/metrics": lambda: (200, CONTENT_TYPE, metrics()),
        }
        self._server = _bound(host, port, routes)
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


_Route = Callable[[], tuple[int, str, str]]
"""Gives status, content type and body."""


def _probe(probe: Probe) -> _Route:
    def answer() -> tuple[int, str, str]:
        ok, reasons = probe()
        return 200 if ok else 503, "application/json", json.dumps({"ok": ok, **reasons}) + "\n"

    return answer


def _bound(host: str, port: int, routes: Mapping[str, _Route]) -> _Server:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise ConfigError(f"CONSUMER_HTTP__HOST {host!r} is not known here: set an address of this machine") from error
    try:
        return _Server(family, address, routes)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"CONSUMER_HTTP__PORT {port} on {host} is in use by another process: set a free port, or 0 for none"
            ) from error
        if error.errno == errno.EACCES:
            raise ConfigError(
                f"CONSUMER_HTTP__PORT {port} may not be bound by this user: set one above 1023, or 0 for none"
            ) from error
        raise ConfigError(
            f"CONSUMER_HTTP__HOST {host!r} cannot be bound ({error.strerror}): set an address of this machine"
        ) from error


class _Server(ThreadingMixIn, TCPServer):
    """Not `http.server.HTTPServer`: that asks the name service for the host's full name, which can hang."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, family: int, address: Any, routes: Mapping[str, _Route]) -> None:
        self.address_family = family
        self.routes = routes
        self._lock = threading.Lock()
        self._deadlines: dict[Any, float] = {}
        super().__init__(address, _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse a connection beyond the bound: it is closed at once."""
        with self._lock:
            if len(self._deadlines) >= _MAX_CONNECTIONS:
                return False
            self._deadlines[request] = time.monotonic() + _REQUEST_SECONDS
            return True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called at every turn of the accepting loop: cuts off who is too slow, whatever it still sends."""
        now = time.monotonic()
        with self._lock:
            for request in [request for request, deadline in self._deadlines.items() if deadline < now]:
                self._deadlines.pop(request)
                _cut_off(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):  # an OSError is the client's: it went away
            log.error("http request failed", exception=error)


def _cut_off(request: socket.socket) -> None:
    with suppress(OSError):  # the client has gone by itself
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "checkpoint-consumer"
    sys_version = ""
    timeout = _REQUEST_SECONDS

    def do_GET(self) -> None:
        """Answer one request; the connection is closed after it, as HTTP/1.0 says."""
        route = self.server.routes.get(self.path.partition("?")[0], _not_found)
        try:
            status, content_type, body = route()
        except Exception as error:  # noqa: BLE001 - whatever the callable raised: the asker must see that all is not well
            log.error("http request failed", exception=error, path=self.path)
            status, content_type, body = 500, "text/plain; charset=utf-8", "internal error, see the log\n"
        content = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that is overridden
        """No access log: probes would fill it."""


def _not_found() -> tuple[int, str, str]:
    return 404, "text/plain; charset=utf-8", "there are /livez, /readyz and /metrics\n"
