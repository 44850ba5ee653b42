"""JSON over HTTP within a time limit: what the schema registry's client needs, and no more.

The standard library's client, so that `run` needs no HTTP package. It follows no redirect (credentials would go
along) and uses no proxy.
"""

from __future__ import annotations

import base64
import http.client
import json
import queue
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from consumer.errors import ConfigError, TransientError

__all__ = ["Answer", "Rest"]

OPTIONS = "CONSUMER_SCHEMA__REGISTRY_OPTIONS"
URL = "CONSUMER_SCHEMA__REGISTRY_URL"
CALL_SECONDS = 3.0
TOTAL_SECONDS = 8.0
"""Below the shutdown timeout: a member that waits for a registry can still be stopped in time."""
MAX_ANSWER_BYTES = 4 << 20
KNOWN_OPTIONS = (
    "basic.auth.user.info",
    "bearer.auth.token",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
)


class Answer(NamedTuple):
    """A definite answer: an HTTP status below 500 other than 429, and its JSON body (None: not JSON)."""

    status: int
    body: Any


class Rest:
    """One server. `options` are named as Confluent's clients name them: KNOWN_OPTIONS.

    Raises:
        ConfigError: the URL or an option is wrong; no message ever holds a credential.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        *,
        call_seconds: float = CALL_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = _checked_url(url)
        _check_options(options)
        self.name = f"{self._url.scheme}://{self._url.netloc}{self._url.path}"
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        authorization = _authorization(options)
        if authorization:
            self._headers["Authorization"] = authorization
        self._tls = _tls(options) if self._url.scheme == "https" else None
        self._call_seconds, self._total_seconds = call_seconds, total_seconds
        self._clock, self._sleep = clock, sleep

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask until there is a definite answer: failed connections, 429 and 5xx are tried again with full jitter.

        Raises:
            TransientError: no definite answer within `total_seconds`.
            ConfigError: the server's certificate does not verify, or the credentials are refused.
        """
        deadline = self._clock() + self._total_seconds
        longest_pause = 0.25
        while True:
            remaining = max(deadline - self._clock(), 0.1)
            trouble: Any
            try:
                answer = _within(min(self._call_seconds, remaining), lambda: self._exchange(method, path, body))
            except ssl.SSLCertVerificationError as error:
                reason = f"its certificate does not verify ({error.verify_message})"
                raise ConfigError(f"{self.name}: {reason}; set ssl.ca.location in {OPTIONS} or correct {URL}") from None
            except (OSError, http.client.HTTPException) as error:
                trouble = f"{type(error).__name__}: {error}"
            else:
                if answer.status in (401, 403):
                    raise ConfigError(
                        f"{self.name} refuses the credentials (HTTP {answer.status}): correct basic.auth.user.info or "
                        f"bearer.auth.token in {OPTIONS}, or the user's rights"
                    )
                if answer.status != 429 and answer.status < 500:
                    return answer
                trouble = f"HTTP {answer.status}"
            pause = random.uniform(0, longest_pause)  # noqa: S311 - spreads retries, guards nothing
            longest_pause = min(longest_pause * 2, 4.0)
            if self._clock() + pause >= deadline:
                raise TransientError(f"{self.name} gives no answer ({trouble}): start it, or correct {URL}")
            self._sleep(pause)

    def _exchange(self, method: str, path: str, body: Any) -> Answer:
        """One request on a connection of its own."""
        host, port = str(self._url.hostname), self._url.port
        connection: http.client.HTTPConnection
        if self._tls:
            connection = http.client.HTTPSConnection(host, port, timeout=self._call_seconds, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._call_seconds)
        try:
            headers = dict(self._headers)
            if body is not None:
                headers["Content-Type"] = "application/vnd.schemaregistry.v1+json"
            payload = None if body is None else json.dumps(body).encode()
            connection.request(method, self._url.path.rstrip("/") + path, payload, headers)
            response = connection.getresponse()
            text = response.read(MAX_ANSWER_BYTES + 1)
        finally:
            connection.close()
        try:
            return Answer(response.status, json.loads(text) if len(text) <= MAX_ANSWER_BYTES else None)
        except ValueError:
            return Answer(response.status, None)


def _within(seconds: float, function: Callable[[], Answer]) -> Answer:
    """`function`'s outcome, or TimeoutError after `seconds`, whatever it hangs on.

    A socket's own timeout bounds neither a name lookup nor a server that sends one byte now and then; hence a thread.
    """
    outcome: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(function())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome.put(error)

    threading.Thread(target=run, name="registry-call", daemon=True).start()
    try:
        result = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.1f} s") from None
    if isinstance(result, BaseException):
        raise result
    return result


def _checked_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment:
        raise ConfigError(f"{URL} is no URL like http://host:8081 or https://host/path: correct it")
    if parts.username is not None:
        raise ConfigError(f"{URL} contains credentials: give them as basic.auth.user.info in {OPTIONS}")
    return parts


def _check_options(options: Mapping[str, Any]) -> None:
    for key, value in options.items():
        if key not in KNOWN_OPTIONS:
            near = get_close_matches(key, KNOWN_OPTIONS, 1)
            meant = f"did you mean {near[0]}?" if near else f"known are {', '.join(KNOWN_OPTIONS)}"
            raise ConfigError(f"{OPTIONS}: unknown option {key!r}; {meant}")
        if not isinstance(value, str):
            raise ConfigError(f"{OPTIONS}: {key} is no text; write it in quotes")


def _authorization(options: Mapping[str, str]) -> str | None:
    user_info, token = options.get("basic.auth.user.info"), options.get("bearer.auth.token", "").strip()
    if user_info and token:
        raise ConfigError(f"{OPTIONS}: both basic.auth.user.info and bearer.auth.token are set; remove one")
    if user_info:
        if ":" not in user_info:
            raise ConfigError(f"{OPTIONS}: basic.auth.user.info is not of the form user:password")
        return "Basic " + base64.b64encode(user_info.encode()).decode()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError(f"{OPTIONS}: bearer.auth.token has characters that an HTTP header cannot hold")
    return f"Bearer {token}" if token else None


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    authority, certificate = options.get("ssl.ca.location"), options.get("ssl.certificate.location")
    try:
        context = ssl.create_default_context(cafile=authority)
        if certificate:
            context.load_cert_chain(certificate, options.get("ssl.key.location"), options.get("ssl.key.password", ""))
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (authority, certificate, options.get("ssl.key.location"))))
        raise ConfigError(f"{OPTIONS}: cannot load the TLS files {files}: {error}; correct the ssl.* options") from None
    return context
