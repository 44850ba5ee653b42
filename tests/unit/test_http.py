"""Health and metrics over HTTP, on real sockets of the loopback interface."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, RemoteDisconnected

import pytest

import consumer.http
from consumer.errors import ConfigError
from consumer.http import HealthServer


class State:
    live = True
    ready = False
    broken = False

    def livez(self) -> tuple[bool, dict[str, object]]:
        return self.live, {"age_seconds": 1.5}

    def readyz(self) -> tuple[bool, dict[str, object]]:
        return self.ready, {"groups": {"g": "not joined"}}

    def metrics(self) -> str:
        if self.broken:
            raise RuntimeError("broken")
        return "a 1\n"


@pytest.fixture
def state() -> State:
    return State()


def serve(state: State, host: str = "127.0.0.1", port: int = 0) -> HealthServer:
    return HealthServer(host, port, livez=state.livez, readyz=state.readyz, metrics=state.metrics)


@pytest.fixture
def server(state: State) -> Iterator[HealthServer]:
    server = serve(state)
    yield server
    server.close()


def get(server: HealthServer, path: str, host: str = "127.0.0.1") -> tuple[int, str, str]:
    connection = HTTPConnection(host, server.port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()
    finally:
        connection.close()


def test_probes_say_why(server: HealthServer, state: State) -> None:
    status, content_type, body = get(server, "/livez?verbose=1")
    assert (status, content_type, json.loads(body)) == (200, "application/json", {"ok": True, "age_seconds": 1.5})
    status, _, body = get(server, "/readyz")
    assert (status, json.loads(body)) == (503, {"ok": False, "groups": {"g": "not joined"}})

    state.live, state.ready = False, True

    assert get(server, "/livez")[0] == 503
    assert get(server, "/readyz")[0] == 200


def test_metrics_and_unknown_paths(server: HealthServer) -> None:
    assert get(server, "/metrics") == (200, "text/plain; version=0.0.4; charset=utf-8", "a 1\n")
    assert get(server, "/")[0] == 404
    assert get(server, "/livez/../metrics")[0] == 404


def test_a_callable_that_raises_is_no_answer_and_the_server_goes_on(server: HealthServer, state: State) -> None:
    state.broken = True

    with pytest.raises(RemoteDisconnected):
        get(server, "/metrics")
    assert get(server, "/livez")[0] == 200


def test_a_port_in_use_names_the_setting(server: HealthServer, state: State) -> None:
    with pytest.raises(ConfigError, match=rf"CONSUMER_HTTP__PORT {server.port} .*in use.* a free port"):
        serve(state, port=server.port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_a_host_that_is_not_here_names_the_setting(state: State, host: str) -> None:
    with pytest.raises(ConfigError, match=r"^CONSUMER_HTTP__HOST .* an address of this machine"):
        serve(state, host=host)


def test_the_port_is_free_again_after_close(state: State) -> None:
    server = serve(state)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        while client.recv(4096):
            pass  # the server closes first, so that its side stays in TIME_WAIT
    server.close()
    again = serve(state, port=server.port)
    again.close()

    assert again.port == server.port


def test_ipv6(state: State) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        server = serve(state, host="::1")
    except ConfigError:
        pytest.skip("this machine has no IPv6 loopback address")
    try:
        assert get(server, "/livez", host="::1")[0] == 200
    finally:
        server.close()


def test_a_client_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch, state: State) -> None:
    monkeypatch.setattr(consumer.http._Handler, "timeout", 0.01)
    server = serve(state)
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.sendall(b"GET /livez HTTP/1.0\r\nX: ")
            assert client.recv(1) == b""
    finally:
        server.close()
