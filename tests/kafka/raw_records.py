"""Records that the Python client refuses to make and others may write all the same: through librdkafka itself."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import confluent_kafka.cimpl

TOPIC, PARTITION, VALUE, FLAGS, TIMESTAMP, HEADER = 1, 3, 4, 7, 8, 9
"""`rd_kafka_vtype_t`, librdkafka's rdkafka.h."""
COPY = 2
PRODUCER = 0


class _Bytes(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("data", ctypes.c_char_p), ("size", ctypes.c_ssize_t))


class _Value(ctypes.Union):
    _fields_ = (
        ("text", ctypes.c_char_p),
        ("number", ctypes.c_int32),
        ("long", ctypes.c_int64),
        ("bytes", _Bytes),
        ("header", _Header),
        ("padding", ctypes.c_char * 64),
    )


class _Field(ctypes.Structure):
    """`rd_kafka_vu_t`."""

    _fields_ = (("kind", ctypes.c_int), ("value", _Value))


def produce_raw(
    bootstrap: str,
    topic: str,
    value: bytes,
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    timestamp_ms: int | None = None,
) -> None:
    """Write one record to partition 0 with header names that need not be UTF-8 and any timestamp, and wait for it."""
    # The extension module leads to the librdkafka that it was linked with.
    library = ctypes.CDLL(confluent_kafka.cimpl.__file__)
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_produceva"):
        getattr(library, name).restype = ctypes.c_void_p
    error = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap.encode(), error, len(error))
    producer = ctypes.c_void_p(library.rd_kafka_new(PRODUCER, conf, error, len(error)))
    fields = [
        _Field(TOPIC, _Value(text=topic.encode())),
        _Field(PARTITION, _Value(number=0)),
        _Field(FLAGS, _Value(number=COPY)),
        _Field(VALUE, _Value(bytes=_Bytes(value, len(value)))),
        *(_Field(HEADER, _Value(header=_Header(name, data, len(data)))) for name, data in headers),
    ]
    if timestamp_ms is not None:
        fields.append(_Field(TIMESTAMP, _Value(long=timestamp_ms)))
    assert library.rd_kafka_produceva(producer, (_Field * len(fields))(*fields), ctypes.c_size_t(len(fields))) is None
    assert library.rd_kafka_flush(producer, 10_000) == 0
    library.rd_kafka_destroy(producer)
