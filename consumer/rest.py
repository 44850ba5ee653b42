"""JSON over HTTP within a time limit: what the schema registry's client needs, and no more.

The standard library's client, so that `run` needs no HTTP package. It follows no redirect (credentials would go
along) and uses no proxy.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from consumer.errors import ConfigError, TransientError

__all__ = ["CALL_SECONDS", "KNOWN_OPTIONS", "Answer", "Rest"]

OPTIONS = "CONSUMER_SCHEMA__REGISTRY_OPTIONS"
URL = "CONSUMER_SCHEMA__REGISTRY_URL"
CALL_SECONDS = 3.0
KNOWN_OPTIONS = (
    "basic.auth.user.info",
    "bearer.auth.token",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
)


class Answer(NamedTuple):
    """A definite answer: an HTTP status below 500 other than 429, and its JSON object ({}: anything else)."""

    status: int
    body: dict[str, Any]


class Rest:
    """One server. `options` are named as Confluent's clients name them; `seconds` bounds every wait for the server.

    Raises:
        ConfigError: the URL or an option is wrong; no message ever holds a credential.
    """

    def __init__(self, url: str, options: Mapping[str, Any], seconds: float = CALL_SECONDS) -> None:
        if not re.fullmatch(r"https?://([\w.-]+|\[[\da-f:]+])(:\d{1,5})?(/[\w./-]*)?", url):
            raise ConfigError(f"{URL} is no URL like http://host:8081/path: correct it; credentials go into {OPTIONS}")
        wrong = [key for key, value in options.items() if key not in KNOWN_OPTIONS or not isinstance(value, str)]
        if wrong:
            known = ", ".join(KNOWN_OPTIONS)
            raise ConfigError(f"{OPTIONS}: {', '.join(wrong)} is unknown or no text; known texts are {known}")
        self.name = url.rstrip("/")
        scheme, server, self._path, _, _ = urlsplit(self.name)
        self._headers = {"Content-Type": "application/vnd.schemaregistry.v1+json", **_authorization(options)}
        self._connect: Callable[[], HTTPConnection] = partial(HTTPConnection, server, timeout=seconds)
        if scheme == "https":
            self._connect = partial(HTTPSConnection, server, timeout=seconds, context=_tls(options))

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask once.

        Raises:
            TransientError: no definite answer: no connection, too late, 429 or 5xx.
            ConfigError: the server's certificate does not verify, or the credentials are refused.
        """
        try:
            answer = self._exchange(method, path, body)
        except ssl.SSLCertVerificationError as error:
            reason = f"its certificate does not verify ({error.verify_message})"
            raise ConfigError(f"{self.name}: {reason}; set ssl.ca.location in {OPTIONS} or correct {URL}") from None
        except (OSError, HTTPException) as error:
            raise self._no_answer(f"{type(error).__name__}: {error}") from None
        if answer.status in (401, 403):
            raise ConfigError(
                f"{self.name} refuses the credentials (HTTP {answer.status}): correct basic.auth.user.info or "
                f"bearer.auth.token in {OPTIONS}, or the user's rights"
            )
        if answer.status == 429 or answer.status >= 500:
            raise self._no_answer(f"HTTP {answer.status}")
        return answer

    def _no_answer(self, reason: str) -> TransientError:
        return TransientError(f"{self.name} gives no answer ({reason}): start it, or correct {URL}")

    def _exchange(self, method: str, path: str, body: Any) -> Answer:
        """One request on a connection of its own."""
        connection = self._connect()
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, self._path + path, payload, self._headers)
            response = connection.getresponse()
            text = response.read(4 << 20)
        finally:
            connection.close()
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        return Answer(response.status, content if isinstance(content, dict) else {})


def _authorization(options: Mapping[str, str]) -> dict[str, str]:
    user_info, token = options.get("basic.auth.user.info"), options.get("bearer.auth.token", "").strip()
    if user_info:
        return {"Authorization": "Basic " + base64.b64encode(user_info.encode()).decode()}
    if not re.fullmatch("[!-~]*", token):
        raise ConfigError(f"{OPTIONS}: bearer.auth.token has characters that an HTTP header cannot hold")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    files = [options.get(f"ssl.{file}.location") for file in ("ca", "certificate", "key")]
    try:
        context = ssl.create_default_context(cafile=files[0])
        if files[1]:
            context.load_cert_chain(files[1], files[2], options.get("ssl.key.password", ""))
    except OSError as error:
        shown = ", ".join(filter(None, files))
        raise ConfigError(f"{OPTIONS}: cannot load the TLS files {shown}: {error}; correct the ssl.* options") from None
    return context
