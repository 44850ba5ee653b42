"""The embedded broker: librdkafka's mock cluster of one broker, in this process, for `demo` and for tests.

Groups, partitions and restarts behave as on a real broker, and requests can be made to fail. It keeps no offsets of
transactions and shows aborted records, so it demonstrates at-least-once at most: nothing about exactly-once may be
concluded from it (rdkafka_mock_handlers.c, librdkafka 2.16).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from types import SimpleNamespace, TracebackType
from typing import Any, Self

from confluent_kafka import KafkaError, Producer, cimpl

__all__ = ["EmbeddedBroker", "full_control_available"]

_PRODUCER = 0
_BROKER_ID = 1
_HEARTBEAT_MS = 500
"""Of KIP-848 members: a change of the group takes two or three of them; 5 s on a real broker."""
_SESSION_MS = 3_000
"""So long a KIP-848 member that died keeps its partitions; 45 s on a real broker."""
# name -> (result, arguments) in rdkafka.h and rdkafka_mock.h; P is any pointer.
_P, _I16, _I32, _INT, _TEXT = ctypes.c_void_p, ctypes.c_int16, ctypes.c_int32, ctypes.c_int, ctypes.c_char_p
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "conf_new": (_P, []),
    "conf_set": (_INT, [_P, _TEXT, _TEXT, _TEXT, ctypes.c_size_t]),
    "new": (_P, [_INT, _P, _TEXT, ctypes.c_size_t]),
    "destroy": (None, [_P]),
    "mock_cluster_new": (_P, [_P, _INT]),
    "mock_cluster_destroy": (None, [_P]),
    "mock_cluster_bootstraps": (_TEXT, [_P]),
    "mock_topic_create": (_INT, [_P, _TEXT, _INT, _INT]),
    "mock_group_initial_rebalance_delay_ms": (None, [_P, _I32]),
    "mock_set_controller_id": (None, [_P, _I32]),
    "mock_set_group_consumer_heartbeat_interval_ms": (None, [_P, _INT]),
    "mock_set_group_consumer_session_timeout_ms": (None, [_P, _INT]),
    "mock_push_request_errors_array": (None, [_P, _I16, ctypes.c_size_t, ctypes.POINTER(_INT)]),
    "mock_broker_set_down": (_INT, [_P, _I32]),
    "mock_broker_set_up": (_INT, [_P, _I32]),
    "mock_broker_set_rtt": (_INT, [_P, _I32, _INT]),
}


def _c_functions() -> SimpleNamespace:
    """Look up librdkafka's C functions through the extension module that is linked to it.

    Raises OSError or AttributeError where they cannot be reached.
    """
    linked = ctypes.CDLL(cimpl.__file__)
    functions = SimpleNamespace()
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(linked, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
        setattr(functions, name, function)
    return functions


def full_control_available() -> bool:
    """Whether the C functions can be reached: without them there are no own topic sizes and no faults."""
    try:
        _c_functions()
    except (OSError, AttributeError):
        return False
    return True


class EmbeddedBroker:
    """One broker on a loopback port, from `with` to its end; its data is memory only.

    Where the C functions cannot be reached (see `full_control_available`) topics have 4 partitions whatever was
    asked for, the first join of a group takes 3 s, and the fault methods raise RuntimeError.
    """

    def __init__(self) -> None:
        self.bootstrap = ""
        self._library: SimpleNamespace | None = None
        self._handle: Any = None
        self._cluster: Any = None
        self._producer: Producer | None = None

    def __enter__(self) -> Self:
        if full_control_available():
            self._start_by_library()
        else:
            self._producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
            brokers = self._producer.list_topics(timeout=10).brokers.values()
            self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._library is not None:
            self._library.mock_cluster_destroy(self._cluster)
            self._library.destroy(self._handle)
        self._library = self._producer = None

    def create_topic(self, name: str, partitions: int) -> int:
        """Create a topic and return how many partitions it has."""
        if self._library is not None:
            self._check(self._library.mock_topic_create(self._cluster, name.encode(), partitions, 1))
            return partitions
        if self._producer is None:
            raise RuntimeError("the embedded broker is not running: use it in a with statement")
        return len(self._producer.list_topics(name, timeout=10).topics[name].partitions)

    def push_request_errors(self, api_key: int, errors: Sequence[int]) -> None:
        """Answer the next requests of kind `api_key` (a number of the Kafka protocol) with these error codes."""
        codes = (_INT * len(errors))(*errors)
        self._control().mock_push_request_errors_array(self._cluster, api_key, len(errors), codes)

    def set_broker_down(self) -> None:
        """Drop every connection and refuse new ones."""
        self._check(self._control().mock_broker_set_down(self._cluster, _BROKER_ID))

    def set_broker_up(self) -> None:
        """Accept connections again; the data is still there."""
        self._check(self._control().mock_broker_set_up(self._cluster, _BROKER_ID))

    def set_broker_rtt(self, milliseconds: int) -> None:
        """Delay every answer."""
        self._check(self._control().mock_broker_set_rtt(self._cluster, _BROKER_ID, milliseconds))

    def _start_by_library(self) -> None:
        library = self._library = _c_functions()
        message = ctypes.create_string_buffer(512)
        conf = library.conf_new()
        library.conf_set(conf, b"log_level", b"0", message, len(message))
        self._handle = library.new(_PRODUCER, conf, message, len(message))
        if not self._handle:
            raise RuntimeError(f"librdkafka does not start: {message.value.decode()}")
        self._cluster = library.mock_cluster_new(self._handle, 1)
        library.mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        library.mock_set_group_consumer_heartbeat_interval_ms(self._cluster, _HEARTBEAT_MS)
        library.mock_set_group_consumer_session_timeout_ms(self._cluster, _SESSION_MS)
        # It names no controller by itself, and admin clients would wait for one until their requests time out.
        library.mock_set_controller_id(self._cluster, _BROKER_ID)
        self.bootstrap = library.mock_cluster_bootstraps(self._cluster).decode()

    def _control(self) -> SimpleNamespace:
        if self._library is None:
            raise RuntimeError("the embedded broker takes faults only while it runs and where its C functions are")
        return self._library

    @staticmethod
    def _check(code: int) -> None:
        if code:
            raise RuntimeError(f"the embedded broker refuses: {KafkaError(code).str()}")
